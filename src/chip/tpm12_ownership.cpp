#include "tpm12_ownership.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace vtpm::chip::tpm12 {
namespace {

constexpr std::uint32_t property_owner = 0x111;
constexpr std::uint16_t protocol_owner = 5;  // TPM_PID_OWNER
constexpr std::uint32_t alg_rsa = 1;
constexpr std::uint16_t encryption_oaep = 3;  // TPM_ES_RSAESOAEP_SHA1_MGF1
constexpr std::size_t min_modulus = 2048 / 8;
constexpr std::size_t max_modulus = 4096 / 8;
constexpr std::string_view oaep_label = "TCPA";
constexpr std::size_t hex_digits = 2 * sha1_size;

struct Ends {
    void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
    void operator()(EVP_PKEY_CTX* context) const { ::EVP_PKEY_CTX_free(context); }
    void operator()(BIGNUM* number) const { ::BN_free(number); }
    void operator()(OSSL_PARAM_BLD* builder) const { ::OSSL_PARAM_BLD_free(builder); }
    void operator()(OSSL_PARAM* parameters) const { ::OSSL_PARAM_free(parameters); }
};
template <typename T>
using Owned = std::unique_ptr<T, Ends>;

tl::unexpected<Error> strange_key() {
    return fail(Errc::malformed, NextAction::ask_operator,
                "the chip's endorsement key is none that a TPM 1.2 has");
}

// Of a TPM_PUBKEY, Part 2 clause 10.5; the exponent is always 65537.
Result<ByteView> modulus_of(ByteReader& reader) {
    VTPM_TRY(const auto algorithm, reader.u32());
    VTPM_TRY(const auto encryption, reader.u16());
    VTPM_CHECK(reader.u16());
    VTPM_TRY(const auto size, reader.u32());
    VTPM_TRY(const ByteView parameters, reader.bytes(size));
    ByteReader inner(parameters);
    VTPM_CHECK(inner.u32());
    VTPM_CHECK(inner.u32());
    VTPM_TRY(const auto exponent, inner.u32());
    VTPM_TRY(const auto modulus_size, reader.u32());
    VTPM_TRY(const ByteView modulus, reader.bytes(modulus_size));
    if (algorithm != alg_rsa || encryption != encryption_oaep || exponent != 0 ||
        inner.left() != 0 || modulus.size() < min_modulus || modulus.size() > max_modulus) {
        return strange_key();
    }
    return modulus;
}

Result<Owned<EVP_PKEY>> public_key(ByteView modulus) {
    const Owned<BIGNUM> n(::BN_bin2bn(modulus.data(), static_cast<int>(modulus.size()), nullptr));
    const Owned<OSSL_PARAM_BLD> builder(::OSSL_PARAM_BLD_new());
    if (!n || !builder ||
        ::OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        ::OSSL_PARAM_BLD_push_ulong(builder.get(), OSSL_PKEY_PARAM_RSA_E, 65537) != 1)
        return strange_key();
    const Owned<OSSL_PARAM> parameters(::OSSL_PARAM_BLD_to_param(builder.get()));
    const Owned<EVP_PKEY_CTX> context(::EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* key = nullptr;
    if (!parameters || !context || ::EVP_PKEY_fromdata_init(context.get()) != 1 ||
        ::EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
        return strange_key();
    }
    return Owned<EVP_PKEY>(key);
}

Result<Bytes> encrypted(EVP_PKEY* key, ByteView secret) {
    const Owned<EVP_PKEY_CTX> context(::EVP_PKEY_CTX_new(key, nullptr));
    void* const label = ::OPENSSL_memdup(oaep_label.data(), oaep_label.size());
    const bool ready = context && label != nullptr && ::EVP_PKEY_encrypt_init(context.get()) == 1 &&
                       ::EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) == 1 &&
                       ::EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), ::EVP_sha1()) == 1 &&
                       ::EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), ::EVP_sha1()) == 1;
    if (!ready || ::EVP_PKEY_CTX_set0_rsa_oaep_label(context.get(), label,
                                                     static_cast<int>(oaep_label.size())) != 1) {
        ::OPENSSL_free(label);  // else it is the context's
        return strange_key();
    }
    std::size_t size = 0;
    if (::EVP_PKEY_encrypt(context.get(), nullptr, &size, secret.data(), secret.size()) != 1)
        return strange_key();
    Bytes out(size);
    if (::EVP_PKEY_encrypt(context.get(), out.data(), &size, secret.data(), secret.size()) != 1)
        return strange_key();
    out.resize(size);
    return out;
}

Result<Owned<EVP_PKEY>> endorsement_key(Tpm12Connection& connection) {
    const Sha1 nonce = sha1({u32_bytes(protocol_owner)});
    VTPM_TRY(const SecretBytes answer, connection.run(Ordinal::read_pubek, {.parts = {nonce}}));
    ByteReader reader(answer.view());
    VTPM_TRY(const ByteView modulus, modulus_of(reader));
    const std::size_t key_size = answer.size() - reader.left();
    VTPM_TRY(const ByteView checksum, reader.bytes(sha1_size));
    if (!equal_constant_time(checksum, sha1({answer.view().first(key_size), nonce})))
        return strange_key();
    return public_key(modulus);
}

// TPM_KEY, Part 2 clause 10.2, of a storage root key that is to be made.
Bytes srk_parameters() {
    return ByteWriter()
        .u32(0x01010000)  // version 1.1
        .u16(0x0011)      // TPM_KEY_STORAGE
        .u32(0)           // not migratable
        .u8(1)            // TPM_AUTH_ALWAYS
        .u32(alg_rsa)
        .u16(encryption_oaep)
        .u16(1)   // TPM_SS_NONE
        .u32(12)  // the size of what follows
        .u32(2048)
        .u32(2)
        .u32(0)
        .u32(0)  // no PCRs,
        .u32(0)  // no public
        .u32(0)  // and no private part yet
        .take();
}

std::optional<std::uint32_t> digit_of(std::uint8_t c) {
    if (c >= '0' && c <= '9')
        return c - std::uint32_t{'0'};
    const std::uint32_t lower = c | 0x20U;
    return lower >= 'a' && lower <= 'f' ? std::optional(lower - 'a' + 10U) : std::nullopt;
}

}  // namespace

Result<bool> has_owner(Tpm12Connection& connection) {
    VTPM_TRY(const SecretBytes answer,
             connection.capability(cap_property, u32_bytes(property_owner)));
    ByteReader reader(answer.view());
    VTPM_TRY(const auto owned, reader.u8());
    return owned != 0;
}

Result<void> take_ownership(Tpm12Connection& connection, const SecretBytes& owner_auth) {
    VTPM_TRY(const auto key, endorsement_key(connection));
    VTPM_TRY(const Bytes owner, encrypted(key.get(), owner_auth.view()));
    VTPM_TRY(const Bytes srk, encrypted(key.get(), well_known));
    VTPM_TRY(Session session, connection.oiap(owner_auth.view()));
    const Bytes what =
        ByteWriter().u16(protocol_owner).sized(owner).sized(srk).bytes(srk_parameters()).take();
    VTPM_CHECK(connection.run(Ordinal::take_ownership, {.parts = {what}}, {&session}));
    return {};
}

Result<SecretBytes> read_owner_auth(const std::string& path) {
    if (path.empty())
        return SecretBytes(sha1_size);
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid() && errno == EACCES)
        return fail(Errc::permission, "vtpmmgrd may not read " + path + ": chown xen-vtpm " + path +
                                          ", and not below /root, /home or /tmp");
    if (!file.valid())
        return fail_errno("the file with the chip's owner authorization, " + path, errno);
    struct stat about {};
    if (::fstat(file.get(), &about) != 0)
        return fail_errno(path, errno);
    if (!S_ISREG(about.st_mode) || (about.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return fail(Errc::permission, path + " may be read by others: chmod 600 " + path);
    SecretBytes text(hex_digits);
    if (auto whole = read_exactly(file.get(), text.span()); !whole)
        return fail(Errc::malformed, path + " does not hold 40 hexadecimal digits");
    // Not the first 40 of something longer.
    std::uint8_t after = '\n';
    if (::read(file.get(), &after, 1) < 0 || after != '\n')
        return fail(Errc::malformed, path + " holds more than 40 hexadecimal digits");
    SecretBytes auth(sha1_size);
    for (std::size_t i = 0; i < hex_digits; ++i) {
        const auto digit = digit_of(text.view()[i]);
        if (!digit)
            return fail(Errc::malformed, path + " does not hold 40 hexadecimal digits");
        auto& byte = auth.span()[i / 2];
        byte = static_cast<std::uint8_t>((std::uint32_t{byte} << 4U | *digit) & 0xffU);
    }
    return auth;
}

}  // namespace vtpm::chip::tpm12
