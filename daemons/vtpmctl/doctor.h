// vtpmctl doctor: what a tired admin gets wrong, one line each, with what to do.
#pragma once

#include <string>
#include <vector>

#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

enum class Health { fine, warning, problem };

struct Finding {
    Health health;
    std::string subject;  // "xen", "chip", ...
    std::string text;     // what is, and what to do if it is not fine
};

std::vector<Finding> examine(const std::string& manager_socket);

// Whether the next start can have the keys, and who decides that.
std::vector<Finding> examine_approvals(const std::vector<wire::proto::Group>& groups,
                                       const std::vector<wire::proto::Approval>& approvals);

// Prints them; true if there is no problem (warnings do not count).
bool report(const std::vector<Finding>& findings, bool json);

}  // namespace vtpm::control
