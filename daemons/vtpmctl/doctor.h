// vtpmctl doctor: what a tired admin gets wrong, one line each, with what to do.
#pragma once

#include <string>
#include <vector>

namespace vtpm::control {

enum class Health { fine, warning, problem };

struct Finding {
    Health health;
    std::string subject;  // "xen", "chip", ...
    std::string text;     // what is, and what to do if it is not fine
};

std::vector<Finding> examine(const std::string& manager_socket);

// Prints them; true if there is no problem (warnings do not count).
bool report(const std::vector<Finding>& findings, bool json);

}  // namespace vtpm::control
