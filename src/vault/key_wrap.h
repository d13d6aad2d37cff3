// AES-256 key wrap (RFC 3394): a key under a key, with an integrity check. Private to the vault
// room.
#pragma once

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::vault {

inline constexpr std::size_t wrap_overhead = 8;

// `key` is 16 bytes or more, a multiple of 8; `under` is 32 bytes.
Result<Bytes> wrap_key(const SecretBytes& under, const SecretBytes& key);

// Errc::corrupt if it was not wrapped under this key.
Result<SecretBytes> unwrap_key(const SecretBytes& under, ByteView wrapped);

}  // namespace vtpm::vault
