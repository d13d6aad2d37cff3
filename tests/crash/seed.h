// What is chosen at random, and where it is tried.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "fakes/chip/swtpm.h"

namespace vtpm::crash {

// VTPM_TEST_SEED=n: this one again.
inline std::uint32_t seed() {
    const char* const wanted = std::getenv("VTPM_TEST_SEED");
    return wanted == nullptr ? std::uint32_t{20'240'917}
                             : static_cast<std::uint32_t>(std::stoul(wanted));
}

inline fakes::TemporaryDirectory in_memory() {
    ::setenv("VTPM_TEST_DIRECTORY", "/dev/shm", 0);
    return {};
}

}  // namespace vtpm::crash
