// The verb `policy`: which commands one TPM executes for its guest. Prints it on standard output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "commands.h"

namespace vtpm::control {

struct PolicyOptions {
    std::vector<std::string> deny;    // names or 0x codes
    std::vector<std::string> permit;  // what was denied before
    std::vector<std::uint8_t> localities;
    std::optional<bool> vendor;
    std::optional<bool> maintenance;
};

// Changes what the options name and nothing else; with none of them it only prints.
Result<void> policy(ManagerConnection& manager, const std::string& selector,
                    const PolicyOptions& options, Output output);

}  // namespace vtpm::control
