// sign(): an approver's signature, made on this very machine.
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <array>
#include <memory>

#include "boot_statement.h"

namespace vtpm::control {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

bool contains(const SecretBytes& text, std::string_view part) {
    return std::string_view(reinterpret_cast<const char*>(text.view().data()), text.size())
               .find(part) != std::string_view::npos;
}

// OpenSSL's own would ask at the terminal.
int no_password(char*, int, int, void*) {
    return -1;
}

Result<Key> parse_key(const SecretBytes& pem) {
    if (contains(pem, "ENCRYPTED")) {
        return fail(Errc::invalid_argument,
                    "this key is encrypted; sign elsewhere: use --out FILE in place of --key");
    }
    if (!contains(pem, "PRIVATE KEY-----"))
        return fail(Errc::invalid_argument, "this is no private key in PEM");
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
        ::BIO_new_mem_buf(pem.view().data(), static_cast<int>(pem.size())), &::BIO_free);
    Key key(bio ? ::PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr) : nullptr,
            &::EVP_PKEY_free);
    if (!key)
        return fail(Errc::invalid_argument, "this private key cannot be read");
    return key;
}

bool fit_for_an_approver(EVP_PKEY* key) {
    if (::EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        const int bits = ::EVP_PKEY_get_bits(key);
        return bits == 2048 || bits == 3072;
    }
    std::array<char, 64> curve{};
    return ::EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           ::EVP_PKEY_get_group_name(key, curve.data(), curve.size(), nullptr) == 1 &&
           std::string_view(curve.data()) == "prime256v1";
}

}  // namespace

Result<Bytes> sign(ByteView words, const SecretBytes& private_key) {
    VTPM_TRY(const Key key, parse_key(private_key));
    if (!fit_for_an_approver(key.get())) {
        return fail(Errc::invalid_argument,
                    "an approver's key is P-256, or RSA of 2048 or 3072 bits; this is another");
    }
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(::EVP_MD_CTX_new(),
                                                                          &::EVP_MD_CTX_free);
    Bytes signature(BootStatement::max_signature);
    std::size_t size = signature.size();
    if (!context ||
        ::EVP_DigestSignInit(context.get(), nullptr, ::EVP_sha256(), nullptr, key.get()) != 1 ||
        ::EVP_DigestSign(context.get(), signature.data(), &size, words.data(), words.size()) != 1) {
        return fail(Errc::invalid_argument, "this private key does not sign");
    }
    signature.resize(size);
    return signature;
}

}  // namespace vtpm::control
