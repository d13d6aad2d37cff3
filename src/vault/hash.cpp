#include "hash.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include <memory>
#include <new>

namespace vtpm::vault {
namespace {

struct FreeContext {
    void operator()(EVP_KDF_CTX* context) const { EVP_KDF_CTX_free(context); }
    void operator()(EVP_KDF* algorithm) const { EVP_KDF_free(algorithm); }
};

// OSSL_PARAM has no const; the library only reads these.
OSSL_PARAM octets(const char* name, ByteView bytes) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<std::uint8_t*>(bytes.data()),
                                             bytes.size());
}

}  // namespace

Hash sha256(ByteView bytes) {
    Hash out{};
    if (EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, EVP_sha256(), nullptr) != 1) {
        throw std::bad_alloc();
    }
    return out;
}

Hash hmac_sha256(ByteView key, ByteView bytes) {
    Hash out{};
    if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes.data(), bytes.size(),
             out.data(), nullptr) == nullptr) {
        throw std::bad_alloc();
    }
    return out;
}

SecretBytes hkdf_sha256(ByteView key, ByteView salt, ByteView info, std::size_t size) {
    const std::unique_ptr<EVP_KDF, FreeContext> algorithm(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
    const std::unique_ptr<EVP_KDF_CTX, FreeContext> context(EVP_KDF_CTX_new(algorithm.get()));
    std::array<char, 7> digest{"SHA256"};
    std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_INFO, info),
        salt.empty() ? OSSL_PARAM_construct_end() : octets(OSSL_KDF_PARAM_SALT, salt),
        OSSL_PARAM_construct_end()};
    SecretBytes out(size);
    if (!context ||
        EVP_KDF_derive(context.get(), out.span().data(), out.size(), parameters.data()) != 1) {
        throw std::bad_alloc();
    }
    return out;
}

SecretBytes derive_key(const SecretBytes& key, std::string_view purpose) {
    return hkdf_sha256(key.view(), {}, as_bytes(purpose), key_size);
}

Result<SecretBytes> random_secret(std::size_t size) {
    SecretBytes out(size);
    if (RAND_priv_bytes(out.span().data(), static_cast<int>(size)) != 1) {
        return fail(Errc::unavailable, "the system gives no random bytes");
    }
    return out;
}

}  // namespace vtpm::vault
