// The hash functions of the vault: SHA-256, HMAC (FIPS 198-1), HKDF (RFC 5869), and randomness.
//
// Private to the vault room; no state, any thread. Digests and MACs are public; keys are
// SecretBytes.
#pragma once

#include <array>
#include <string_view>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::vault {

inline constexpr std::size_t key_size = 32;
using Hash = std::array<std::uint8_t, 32>;

// These three throw std::bad_alloc; OpenSSL has no other reason to fail them.
Hash sha256(ByteView bytes);
Hash hmac_sha256(ByteView key, ByteView bytes);
SecretBytes hkdf_sha256(ByteView key, ByteView salt, ByteView info, std::size_t size);

// A 32-byte key for one purpose.
SecretBytes derive_key(const SecretBytes& key, std::string_view purpose);

// From the operating system's generator.
Result<SecretBytes> random_secret(std::size_t size);

}  // namespace vtpm::vault
