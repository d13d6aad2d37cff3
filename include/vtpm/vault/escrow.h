// Escrow: a key of the vault's, readable with a recovery key that lies in a drawer.
//
// The way back after a dead mainboard, and not a back door: the recovery key is made elsewhere, and
// comes here when it is used. ECDH-ES on P-256 (SP 800-56A, one-pass) with an
// ephemeral key, HKDF-SHA256, AES-256 key wrap (RFC 3394). Anybody can make an escrow for a public
// key; that the stored one is ours says the MAC of the row that it lies in. No state, any thread.
#pragma once

#include <string_view>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

struct EscrowedKey {
    Uuid manager;
    Uuid owner;       // the group whose key it is; the manager itself for the root key
    SecretBytes key;  // 32 bytes
};

// The public point, uncompressed (65 bytes), of a P-256 private key: PKCS#8 in PEM, not encrypted.
// Errc::invalid_argument if it is not such a key.
Result<Bytes> recovery_public(const SecretBytes& pem);

// The same of a public key in PEM ("PUBLIC KEY").
Result<Bytes> recovery_public(std::string_view pem);

Result<Bytes> make_escrow(ByteView recovery_public_point, const EscrowedKey& key);

// Errc::invalid_argument: not a key, or that of another vault; Errc::corrupt: the blob was changed.
Result<EscrowedKey> open_escrow(const SecretBytes& pem, ByteView blob);

}  // namespace vtpm::vault
