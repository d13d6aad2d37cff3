// The recovery key as text: PKCS#8 (RFC 5958, with RFC 5915 inside) of a P-256 key, in PEM.
//
// Read here and not by OpenSSL, whose decoders leave copies of the text in freed memory (seen with
// 3.0; tests/unit/vault/setup_test.cpp looks for them). The DER of such a key has one form, 138
// bytes; vtpmctl and `openssl pkey` write it. Private to the vault room.
#pragma once

#include <array>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::vault {

inline constexpr std::size_t scalar_size = 32;
inline constexpr std::size_t point_size = 65;  // 0x04, x, y

struct RecoveryKeyParts {
    SecretBytes scalar;  // big-endian
    Bytes point;
};

// Errc::invalid_argument if it is anything else. White space around the lines does not matter.
Result<RecoveryKeyParts> parse_recovery_key(const SecretBytes& pem);

}  // namespace vtpm::vault
