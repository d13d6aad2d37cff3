// What lies in a state file of swtpm: a header in clear, then tag-length-value, in which the state
// is as libtpms made it, or encrypted and authenticated. All numbers are big-endian.
//
//     u8 version (2) | u8 least version of a reader | u16 10 | u16 flags | u32 size of all
//     u16 tag | u32 length | bytes ...
//         1 the state, or else: 2 AES-CBC of it, 3 HMAC-SHA256 of 2 and 6, 6 the IV
//
// Nothing vouches for a state that is not encrypted, nor ever for the header; so whatever swtpm
// itself would not have written is refused. libtpms has the last word when it loads the state.
#pragma once

#include <optional>

#include "swtpm_key.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {

inline constexpr std::size_t max_swtpm_state = 512UL * 1024;               // libtpms' blob
inline constexpr std::size_t max_swtpm_blob = max_swtpm_state + 4UL * 64;  // with all around it

// libtpms' blob. `key`: null if there is none; a key for what is not encrypted is refused, too.
// Errc::corrupt (it is cut or altered, or the key is another one), unsupported (a format of older
// or newer versions, or of a migration), invalid_argument (a key too few or too many), too_large.
Result<SecretBytes> open_swtpm_blob(ByteView blob, const SwtpmKey* key);

// Which TPM's permanent state libtpms' blob says it is, if any.
std::optional<tpm::Version> version_of_permanent(ByteView state);

}  // namespace vtpm::control
