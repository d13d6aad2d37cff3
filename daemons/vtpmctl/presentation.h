// How vtpmctl shows things: tables and sentences for people, JSON for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

// On standard output.
void print_json(const nlohmann::json& json);

nlohmann::json to_json(const wire::proto::Instance& instance);
nlohmann::json to_json(const wire::proto::Status& status);
nlohmann::json to_json(const wire::proto::Failure& failure);

// The line for the guest's xl file.
std::string xl_line(const wire::proto::Instance& instance);

// `group`: the name of its group, if that is known.
std::string describe(const wire::proto::Instance& instance, const std::string& group = "");
std::string describe(const wire::proto::Status& status);
std::string table(const std::vector<wire::proto::Instance>& instances);
// A line of such a table with columns of one width; nullptr: its head.
std::string watch_line(const wire::proto::Instance* instance);

using Row = std::vector<std::string>;
std::string aligned(const std::vector<Row>& rows);  // rows of one length
std::string line(const std::string& label, const std::string& value);

// What comes from a disk that others may have written to must not steer a terminal.
std::string printable(const std::string& text);

std::string uuid_text(const std::string& raw);
std::string time_text(std::int64_t seconds);  // UTC, ISO 8601; "never" for 0

}  // namespace vtpm::control
