// The time of day that libtpms' TPM 1.2 sees: one that never goes back.
//
// The ticks of a TPM 1.2 are what gettimeofday() says, less what it said at the TPM's start. Where
// that is negative, because somebody has set the host's clock back, TPM_GetTicks is TPM_FAIL to
// libtpms, which is failure mode until the next power cycle (tpm_ticks.c, TPM_CurrentTicks_Update).
// This file's gettimeofday() is in the place of the C library's, for the whole process.
//
// libtpms counts seconds in 32 bits, which end in 2106: a host that says 2100 or more is not
// believed, and the time goes on from what it was.
//
// What a TPM has seen in one process goes with its volatile state to the next, on this host or on
// another whose clock is behind. Any thread.
#pragma once

#include <cstdint>

namespace vtpm::engine {

// Microseconds since 1970: the host's, or another if it was set back.
std::uint64_t time_of_day();

// It is this much, at least, from now on.
void go_on_from_time_of_day(std::uint64_t microseconds);

}  // namespace vtpm::engine
