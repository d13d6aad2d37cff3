// The time of day that libtpms sees: one that never goes back.
//
// The ticks of a TPM 1.2 are what gettimeofday() says, less what it said at the TPM's start. Where
// that is negative, because somebody has set the host's clock back, TPM_GetTicks is TPM_FAIL to
// libtpms, which is failure mode until the next power cycle (tpm_ticks.c, TPM_CurrentTicks_Update).
// In one process, that is: an engine that goes on from volatile state begins with the host's clock.
#pragma once

namespace vtpm::engine {

// Puts this time in the place of the C library's gettimeofday(), for the whole process. To be
// called by who uses libtpms, or a linker that has no other need of this file leaves it out. Any
// thread.
void use_steady_time_of_day();

}  // namespace vtpm::engine
