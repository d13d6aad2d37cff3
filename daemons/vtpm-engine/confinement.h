// What every engine does to itself before it hears its guest, whatever its front: it gives up all
// but the system calls, which the filter takes (allowed_calls.h). tests/fuzz puts hostile states
// into the very same jail.
#pragma once

#include <cstdint>
#include <span>

namespace vtpm::engine_program {

inline constexpr int doorman_fd = 3;  // where vtpmd, or who stands in its place, puts them
inline constexpr int manager_fd = 4;

// Loads what would be loaded later, and gives away all but these two and `more` descriptors. Whole-
// process, before other threads start. Ends the process where a step fails.
void confine(std::uint32_t uid, std::span<const int> more);

}  // namespace vtpm::engine_program
