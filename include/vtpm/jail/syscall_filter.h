// An allow list of system calls as data: one line a call, each with its reason. Everything else
// kills the process (SECCOMP_RET_KILL_PROCESS), whichever of its threads asked. seccomp(2),
// seccomp_rule_add(3).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "vtpm/base/result.h"

namespace vtpm::jail {

// Allows the call only if (argument `index` & mask) == value.
struct ArgumentMatch {
    unsigned index;
    std::uint64_t mask;
    std::uint64_t value;
};

struct AllowedCall {
    std::string_view name;    // as seccomp_syscall_resolve_name(3) knows it
    std::string_view reason;  // for the reader
    std::optional<ArgumentMatch> first = {};
    std::optional<ArgumentMatch> second = {};
};

// Installs the filter on all threads of the process (TSYNC). There is no way back. Needs
// forbid_new_privileges() before. An unknown name is an error: a typing mistake must not pass.
Result<void> install_filter(std::span<const AllowedCall> calls);

}  // namespace vtpm::jail
