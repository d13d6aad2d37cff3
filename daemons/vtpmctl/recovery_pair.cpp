#include "recovery_pair.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>

#include "vtpm/base/bytes.h"

namespace vtpm::control {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Text = std::unique_ptr<BIO, decltype(&BIO_free)>;

ByteView written(const Text& text) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(text.get(), &bytes);  // NOLINT: OpenSSL's type
    return {reinterpret_cast<const std::uint8_t*>(bytes), static_cast<std::size_t>(size)};
}

}  // namespace

// What OpenSSL's encoder leaves behind in freed memory goes with this process, which is not dumped
// and, run by root, not swapped out.
Result<RecoveryPair> make_recovery_pair() {
    const Key key(::EVP_EC_gen("P-256"), &::EVP_PKEY_free);
    const Text secret(::BIO_new(::BIO_s_secmem()), &::BIO_free);
    const Text open(::BIO_new(::BIO_s_mem()), &::BIO_free);
    if (!key || !secret || !open ||
        ::PEM_write_bio_PKCS8PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                        nullptr) != 1 ||
        ::PEM_write_bio_PUBKEY(open.get(), key.get()) != 1) {
        return fail(Errc::unavailable, "no recovery key could be made");
    }
    const ByteView text = written(open);
    return RecoveryPair{SecretBytes::copy_of(written(secret)),
                        std::string(text.begin(), text.end())};
}

}  // namespace vtpm::control
