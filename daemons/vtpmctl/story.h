// What vtpmctl show tells of the power cycle that a TPM is in, or was in last.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

nlohmann::json to_json(const wire::proto::Story& story);
std::string story_of(const wire::proto::Story& story);  // lines

}  // namespace vtpm::control
