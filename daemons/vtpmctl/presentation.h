// How vtpmctl shows things: tables and sentences for people, JSON for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

nlohmann::json to_json(const wire::proto::Instance& instance);
nlohmann::json to_json(const wire::proto::Status& status);

// The line for the guest's xl file.
std::string xl_line(const wire::proto::Instance& instance);

std::string describe(const wire::proto::Instance& instance);
std::string describe(const wire::proto::Status& status);
std::string table(const std::vector<wire::proto::Instance>& instances);

std::string uuid_text(const std::string& raw);
std::string time_text(std::int64_t seconds);  // UTC, ISO 8601; "never" for 0

}  // namespace vtpm::control
