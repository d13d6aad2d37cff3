// Profile: what of a newer libtpms a new TPM 2.0 may use, and what to say of a state that this one
// does not take. Free functions; one thread, as libtpms.
#pragma once

#include <string>

#include "vtpm/engine/engine.h"

namespace vtpm::engine {

// For a new TPM 2.0, between TPMLIB_ChooseTPMVersion and TPMLIB_MainInit (TPMLIB_SetProfile(3)):
// the profile that every libtpms from 0.9 on can read. Nothing to do for a libtpms without
// profiles.
Result<void> choose_oldest_profile();

// Of the state of a TPM 2.0, should libtpms refuse it: its format and this libtpms, for whoever
// reads the log. Empty if there is no such state.
std::string explain_format(const std::vector<StateBlob>& blobs);

}  // namespace vtpm::engine
