#include "key_wrap.h"

#include "cipher_context.h"
#include "hash.h"

namespace vtpm::vault {
namespace {

// OpenSSL wants to be told that its caller knows wrap mode to be no stream (EVP_EncryptInit(3)).
CipherContext wrap_context() {
    CipherContext context(EVP_CIPHER_CTX_new());
    if (context)
        EVP_CIPHER_CTX_set_flags(context.get(), EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    return context;
}

// Fetched once: EVP_aes_256_wrap() would be looked up by its name at each use.
const EVP_CIPHER* wrap_algorithm() {
    static const EVP_CIPHER* const algorithm = EVP_CIPHER_fetch(nullptr, "AES-256-WRAP", nullptr);
    return algorithm;
}

}  // namespace

Result<Bytes> wrap_key(const SecretBytes& under, const SecretBytes& key) {
    if (under.size() != key_size || key.size() < 16 || key.size() % 8 != 0) {
        return fail(Errc::invalid_argument, "a key of this size cannot be wrapped");
    }
    const CipherContext context = wrap_context();
    Bytes wrapped(key.size() + wrap_overhead + 16);
    int size = 0;
    if (!context ||
        EVP_EncryptInit_ex(context.get(), wrap_algorithm(), nullptr, under.view().data(),
                           nullptr) != 1 ||
        EVP_EncryptUpdate(context.get(), wrapped.data(), &size, key.view().data(),
                          static_cast<int>(key.size())) != 1) {
        return fail(Errc::unavailable, "AES key wrap failed");
    }
    wrapped.resize(static_cast<std::size_t>(size));
    return wrapped;
}

Result<SecretBytes> unwrap_key(const SecretBytes& under, ByteView wrapped) {
    if (under.size() != key_size || wrapped.size() < 16 + wrap_overhead ||
        wrapped.size() % 8 != 0) {
        return fail(Errc::corrupt, "a wrapped key has the wrong size");
    }
    const CipherContext context = wrap_context();
    SecretBytes key(wrapped.size());
    int size = 0;
    if (!context ||
        EVP_DecryptInit_ex(context.get(), wrap_algorithm(), nullptr, under.view().data(),
                           nullptr) != 1 ||
        EVP_DecryptUpdate(context.get(), key.span().data(), &size, wrapped.data(),
                          static_cast<int>(wrapped.size())) != 1 ||
        size < 0 || static_cast<std::size_t>(size) + wrap_overhead != wrapped.size()) {
        return fail(Errc::corrupt, "a wrapped key does not verify");
    }
    key.shrink(static_cast<std::size_t>(size));
    return key;
}

}  // namespace vtpm::vault
