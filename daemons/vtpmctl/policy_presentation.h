// How vtpmctl shows groups, approvals, boot statements and the journal.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "boot_statement.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

nlohmann::json to_json(const wire::proto::Group& group);
std::string describe(const wire::proto::Group& group);
std::string table(const std::vector<wire::proto::Group>& groups);

// With the names of the groups that they are about.
nlohmann::json to_json(const wire::proto::Approval& approval,
                       const std::vector<wire::proto::Group>& groups);
std::string table(const std::vector<wire::proto::Approval>& approvals,
                  const std::vector<wire::proto::Group>& groups);

nlohmann::json to_json(const wire::proto::LogLine& line);
std::string table(const std::vector<wire::proto::LogLine>& lines);

// The PCRs' values, one a line, for a signer to compare; those that are not `now`'s are marked.
std::string describe(const PcrValues& pcrs, const PcrValues& now);
std::string numbers_text(const PcrValues& pcrs);  // "0, 2, 4, 7"

}  // namespace vtpm::control
