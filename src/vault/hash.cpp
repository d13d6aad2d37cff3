#include "hash.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <initializer_list>
#include <memory>
#include <new>

namespace vtpm::vault {
namespace {

// OpenSSL looks an algorithm up by its name each time it is asked to use one that was not fetched,
// which takes longer than a hash of one row. So each is fetched once, and never given back.
const EVP_MD* sha256_algorithm() {
    static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return algorithm;
}

struct FreeContext {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};
using MacContext = std::unique_ptr<EVP_MAC_CTX, FreeContext>;

// HMAC-SHA256 that waits for a key.
MacContext new_mac() {
    EVP_MAC* const algorithm = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    MacContext context(EVP_MAC_CTX_new(algorithm));
    EVP_MAC_free(algorithm);  // the context holds it
    std::array<char, 7> digest{"SHA256"};
    const std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_end()};
    if (!context || EVP_MAC_CTX_set_params(context.get(), parameters.data()) != 1)
        throw std::bad_alloc();
    return context;
}

// Of the parts, one after another.
void hmac_into(ByteView key, std::initializer_list<ByteView> parts, MutableByteView out) {
    static const MacContext keyless = new_mac();
    const MacContext context(EVP_MAC_CTX_dup(keyless.get()));
    // A null pointer would mean: the key from before.
    static constexpr std::uint8_t none = 0;
    bool done = context && EVP_MAC_init(context.get(), key.empty() ? &none : key.data(), key.size(),
                                        nullptr) == 1;
    for (const auto part : parts)
        done = done && EVP_MAC_update(context.get(), part.data(), part.size()) == 1;
    std::size_t size = 0;
    if (!done || EVP_MAC_final(context.get(), out.data(), &size, out.size()) != 1)
        throw std::bad_alloc();
}

}  // namespace

Hash sha256(ByteView bytes) {
    Hash out{};
    if (EVP_Digest(bytes.data(), bytes.size(), out.data(), nullptr, sha256_algorithm(), nullptr) !=
        1) {
        throw std::bad_alloc();
    }
    return out;
}

Hash hmac_sha256(ByteView key, ByteView bytes) {
    Hash out{};
    hmac_into(key, {bytes}, out);
    return out;
}

// RFC 5869; not OpenSSL's, which looks up its hash by name each time. size: up to 255 hashes.
SecretBytes hkdf_sha256(ByteView key, ByteView salt, ByteView info, std::size_t size) {
    constexpr std::size_t step = sizeof(Hash);
    const Hash no_salt{};
    SecretBytes extracted(step);
    hmac_into(salt.empty() ? ByteView(no_salt) : salt, {key}, extracted.span());
    SecretBytes out((size + step - 1) / step * step);
    ByteView before;
    std::uint8_t count = 0;
    for (std::size_t at = 0; at < size; at += step) {
        const ByteView number(&++count, 1);
        const auto block = out.span().subspan(at, step);
        hmac_into(extracted.view(), {before, info, number}, block);
        before = block;
    }
    out.shrink(size);
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
