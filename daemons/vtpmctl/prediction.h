// What the PCRs will be on a boot that has not happened yet. No state, any thread.
#pragma once

#include <string>

#include "event_log.h"
#include "vtpm/base/result.h"

namespace vtpm::control {

// The log of this boot. Errc::unsupported, with what to do instead, if there is none.
Result<EventLog> read_event_log(const std::string& path);

// The PCRs of `now` with these digests replaced. A log that does not replay to all of `now` is
// refused, naming the PCRs, and so is a digest that was not measured into one of them
// (Errc::invalid_argument).
Result<PcrValues> predict(const EventLog& log, const PcrValues& now,
                          const std::map<PcrDigest, PcrDigest>& replacements);

}  // namespace vtpm::control
