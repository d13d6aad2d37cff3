// P-256 as the vault uses it: ECDH-ES (SP 800-56A, one-pass) with HKDF-SHA256 and AES-256 key wrap.
//
// A wrapped key is bound to both points and to what the caller says about it. Anybody can make one
// for a public point; who made it has to be shown by other means. Private to the vault room; no
// state, any thread.
#pragma once

#include <openssl/evp.h>

#include <memory>

#include "recovery_key.h"
#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::vault {

class P256Key {
  public:
    static Result<P256Key> random();
    // The scalar is big-endian. Errc::invalid_argument unless it is 1 to n - 1.
    static Result<P256Key> from_scalar(const SecretBytes& scalar);
    // Errc::invalid_argument if the halves do not fit.
    static Result<P256Key> from_parts(const RecoveryKeyParts& parts);

    const Bytes& point() const { return point_; }
    EVP_PKEY* get() const { return key_.get(); }

  private:
    struct Free {
        void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    };
    P256Key() = default;

    std::unique_ptr<EVP_PKEY, Free> key_;
    Bytes point_;
};

// Errc::corrupt unless it is an uncompressed point of the curve.
Result<void> check_point(ByteView point);

struct WrappedFor {
    Bytes ephemeral;  // point
    Bytes wrapped;
};

// Wraps a key for who has the private half of `recipient`; `about` has to be the same at both ends.
Result<WrappedFor> wrap_for(ByteView recipient, ByteView about, const SecretBytes& key);

// Errc::corrupt if anything is not as it was.
Result<SecretBytes> unwrap_with(const P256Key& own, ByteView ephemeral, ByteView about,
                                ByteView wrapped);

}  // namespace vtpm::vault
