// A TPM's state where swtpm keeps it: a directory (swtpm's dir:// back end) or one file (file://).
// It is only read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "swtpm_key.h"
#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {

struct SwtpmState {
    tpm::Version version = tpm::Version::v2_0;
    SecretBytes permanent;  // as libtpms made it
    // States of a TPM that was suspended, which are there too. Without them the TPM is what it is
    // after a power cycle.
    std::vector<std::string> left_out;
    Fd lock;  // while it lives, no swtpm can start here (the file:// ones of old do not ask)
};

// `version`: has to be given if the directory has states of both. `key`: null if there is none.
// Errc::not_found (no state), in_use (a swtpm runs there), invalid_argument (not a regular file;
// both versions; a key too few or too many), corrupt, unsupported, too_large.
Result<SwtpmState> read_swtpm_state(const std::string& path, std::optional<tpm::Version> version,
                                    const SwtpmKey* key);

}  // namespace vtpm::control
