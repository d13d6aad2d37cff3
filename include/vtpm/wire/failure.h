// Errors across a socket: Failure messages and back. A code that this version does not know reads
// as Errc::unsupported, so that a newer peer's refusal is still a refusal.
#pragma once

#include "vtpm/base/result.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::wire {

proto::Failure to_message(const Error& error);
Error to_error(const proto::Failure& failure);

}  // namespace vtpm::wire
