#include "approver_key.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <variant>

namespace vtpm::chip {
namespace {

constexpr std::size_t max_pem_size = 16 * 1024;
constexpr std::size_t coordinate_size = 32;
constexpr std::size_t max_signature_size = 384;  // of RSA with 3072 bits
constexpr BN_ULONG exponent = 65537;
constexpr TPMA_OBJECT attributes = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH;

struct Free {
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    void operator()(BIGNUM* number) const { BN_free(number); }
    void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
    void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
    void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// OpenSSL's queue of errors belongs to the thread; what we have seen is ours to take away.
struct ErrorQueue {
    ErrorQueue() = default;
    ErrorQueue(const ErrorQueue&) = delete;
    ErrorQueue& operator=(const ErrorQueue&) = delete;
    ~ErrorQueue() { ERR_clear_error(); }
};

struct EcPoint {
    Bytes x;
    Bytes y;
};
struct RsaModulus {
    Bytes n;
};
using Key = std::variant<EcPoint, RsaModulus>;

tl::unexpected<Error> bad_key(std::string_view why) {
    return fail(Errc::invalid_argument, "not a key that approves: " + std::string(why));
}

tl::unexpected<Error> bad_signature(std::string_view why) {
    return fail(Errc::not_approved, "the approval's signature " + std::string(why));
}

ByteWriter& sized16(ByteWriter& to, ByteView bytes) {
    return to.u16(static_cast<std::uint16_t>(bytes.size())).bytes(bytes);
}

Bytes marshalled(const Key& key) {
    const auto* const point = std::get_if<EcPoint>(&key);
    ByteWriter area;
    area.u16(point != nullptr ? TPM2_ALG_ECC : TPM2_ALG_RSA)
        .u16(TPM2_ALG_SHA256)
        .u32(attributes)
        .u16(0)               // authPolicy
        .u16(TPM2_ALG_NULL);  // symmetric
    if (point != nullptr) {
        area.u16(TPM2_ALG_ECDSA).u16(TPM2_ALG_SHA256).u16(TPM2_ECC_NIST_P256).u16(TPM2_ALG_NULL);
        sized16(area, point->x);
        sized16(area, point->y);
    } else {
        const Bytes& n = std::get<RsaModulus>(key).n;
        // An exponent of 0 stands for 65537.
        area.u16(TPM2_ALG_RSASSA)
            .u16(TPM2_ALG_SHA256)
            .u16(static_cast<std::uint16_t>(n.size() * 8))
            .u32(0);
        sized16(area, n);
    }
    ByteWriter whole;
    return sized16(whole, area.written()).take();
}

bool fits(const Key& key) {
    if (const auto* const point = std::get_if<EcPoint>(&key))
        return point->x.size() == coordinate_size && point->y.size() == coordinate_size;
    const Bytes& n = std::get<RsaModulus>(key).n;
    return (n.size() == 256 || n.size() == 384) && (n.front() & 0x80U) != 0;
}

// The other way round: finds the numbers, and whatever else differs shows in the comparison.
Result<Key> unmarshalled(ByteView bytes) {
    const auto numbers = [&]() -> Result<Key> {
        ByteReader reader(bytes);
        VTPM_CHECK(reader.u16());
        VTPM_TRY(const auto type, reader.u16());
        const auto take = [&]() -> Result<Bytes> {
            VTPM_TRY(const auto size, reader.u16());
            VTPM_TRY(const ByteView taken, reader.bytes(size));
            return Bytes(taken.begin(), taken.end());
        };
        VTPM_CHECK(reader.bytes(2 + 4 + 2 + 2));  // up to the scheme
        VTPM_CHECK(reader.bytes(8));              // scheme, hash, curve and kdf
        if (type == TPM2_ALG_ECC) {
            VTPM_TRY(Bytes x, take());
            VTPM_TRY(Bytes y, take());
            return EcPoint{std::move(x), std::move(y)};
        }
        VTPM_CHECK(reader.u16());  // a modulus' size and exponent take two bytes more
        VTPM_TRY(Bytes n, take());
        return RsaModulus{std::move(n)};
    }();
    if (!numbers || !fits(*numbers) || !std::ranges::equal(marshalled(*numbers), bytes))
        return bad_key("its form is not what this host writes down");
    return *numbers;
}

Owned<BIGNUM> number_of(ByteView bytes) {
    return Owned<BIGNUM>(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
}

Bytes padded(const BIGNUM* number, std::size_t size) {
    Bytes out(size);
    if (BN_bn2binpad(number, out.data(), static_cast<int>(size)) < 0)
        return {};
    return out;
}

Bytes number_in(const EVP_PKEY* key, const char* name, std::size_t size) {
    BIGNUM* number = nullptr;
    if (EVP_PKEY_get_bn_param(key, name, &number) != 1)
        return {};
    const Owned<BIGNUM> owned(number);
    return padded(number, size);
}

// Null if OpenSSL does not take the numbers: a point that is not on the curve.
Owned<EVP_PKEY> openssl_key(const Key& key) {
    const Owned<OSSL_PARAM_BLD> builder(OSSL_PARAM_BLD_new());
    const auto* const point = std::get_if<EcPoint>(&key);
    Bytes encoded;
    Owned<BIGNUM> n;
    Owned<BIGNUM> e;
    if (point != nullptr) {
        encoded = ByteWriter().u8(4).bytes(point->x).bytes(point->y).take();  // uncompressed
        OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
        OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, encoded.data(),
                                         encoded.size());
    } else {
        n = number_of(std::get<RsaModulus>(key).n);
        e.reset(BN_new());
        if (!n || !e || BN_set_word(e.get(), exponent) != 1)
            return nullptr;
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
    }
    const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(builder.get()));
    const Owned<EVP_PKEY_CTX> context(
        EVP_PKEY_CTX_new_from_name(nullptr, point != nullptr ? "EC" : "RSA", nullptr));
    EVP_PKEY* made = nullptr;
    if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
        return nullptr;
    }
    Owned<EVP_PKEY> owned(made);
    const Owned<EVP_PKEY_CTX> checking(EVP_PKEY_CTX_new(made, nullptr));
    return checking && EVP_PKEY_public_check(checking.get()) == 1 ? std::move(owned) : nullptr;
}

Result<Key> numbers_of(const EVP_PKEY* key) {
    switch (EVP_PKEY_get_base_id(key)) {
        case EVP_PKEY_EC: {
            std::array<char, 32> curve{};
            std::size_t size = 0;
            if (EVP_PKEY_get_group_name(key, curve.data(), curve.size(), &size) != 1 ||
                std::string_view(curve.data(), size) != "prime256v1") {
                return bad_key("of the elliptic curves, P-256 (prime256v1) will do");
            }
            return EcPoint{number_in(key, OSSL_PKEY_PARAM_EC_PUB_X, coordinate_size),
                           number_in(key, OSSL_PKEY_PARAM_EC_PUB_Y, coordinate_size)};
        }
        case EVP_PKEY_RSA: {
            const int bits = EVP_PKEY_get_bits(key);
            if (bits != 2048 && bits != 3072)
                return bad_key("RSA has to have 2048 or 3072 bits");
            if (number_in(key, OSSL_PKEY_PARAM_RSA_E, 8) != ByteWriter().u64(exponent).written())
                return bad_key("the exponent of RSA has to be 65537");
            return RsaModulus{
                number_in(key, OSSL_PKEY_PARAM_RSA_N, static_cast<std::size_t>(bits) / 8)};
        }
        default:
            return bad_key("it has to be P-256, or RSA with 2048 or 3072 bits");
    }
}

Owned<ECDSA_SIG> ecdsa_of(ByteView signature) {
    const std::uint8_t* at = signature.data();
    Owned<ECDSA_SIG> parsed(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(signature.size())));
    if (!parsed || at != signature.data() + signature.size())
        return nullptr;
    return parsed;
}

}  // namespace

Result<Bytes> key_from_pem(std::string_view pem) {
    const ErrorQueue queue;
    if (pem.size() > max_pem_size)
        return fail(Errc::invalid_argument, "too long for a public key");
    if (pem.find("PRIVATE KEY-----") != std::string_view::npos) {
        return bad_key(
            "it is a private key, which belongs where approvals are signed and not here. "
            "Its public half: openssl pkey -in KEY -pubout");
    }
    const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    if (!bio)
        return bad_key("it cannot be read");
    const Owned<EVP_PKEY> read(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
    if (!read)
        return bad_key("it is no public key in PEM (openssl pkey -in KEY -pubout makes one)");
    VTPM_TRY(const Key key, numbers_of(read.get()));
    if (!fits(key) || !openssl_key(key))
        return bad_key("its numbers are no key");
    return marshalled(key);
}

Result<void> check_key(ByteView key) {
    const ErrorQueue queue;
    VTPM_TRY(const Key numbers, unmarshalled(key));
    if (!openssl_key(numbers))
        return bad_key("its numbers are no key");
    return {};
}

Result<Bytes> key_as_der(ByteView key) {
    const ErrorQueue queue;
    VTPM_TRY(const Key numbers, unmarshalled(key));
    const Owned<EVP_PKEY> read = openssl_key(numbers);
    unsigned char* raw = nullptr;
    const int size = read ? i2d_PUBKEY(read.get(), &raw) : -1;
    if (size <= 0)
        return bad_key("its numbers are no key");
    Bytes der(raw, raw + size);
    OPENSSL_free(raw);
    return der;
}

Result<void> verify(ByteView key, ByteView words, ByteView signature) {
    const ErrorQueue queue;
    VTPM_TRY(const Key numbers, unmarshalled(key));
    const Owned<EVP_PKEY> with = openssl_key(numbers);
    const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
    if (!with || !context ||
        EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, with.get()) != 1) {
        return bad_key("it cannot verify");
    }
    if (signature.size() > max_signature_size ||
        EVP_DigestVerify(context.get(), signature.data(), signature.size(), words.data(),
                         words.size()) != 1) {
        return bad_signature(
            "does not verify: another key signed, or it was made over something else (other PCR "
            "values, another limit, another host)");
    }
    return {};
}

Result<TPMT_SIGNATURE> signature_for_chip(ByteView key, ByteView signature) {
    const ErrorQueue queue;
    VTPM_TRY(const Key numbers, unmarshalled(key));
    TPMT_SIGNATURE out{};
    if (std::holds_alternative<RsaModulus>(numbers)) {
        auto& rsa = out.signature.rsassa;
        if (signature.size() != std::get<RsaModulus>(numbers).n.size() ||
            signature.size() > sizeof rsa.sig.buffer) {
            return bad_signature("has another size than the key");
        }
        out.sigAlg = TPM2_ALG_RSASSA;
        rsa.hash = TPM2_ALG_SHA256;
        rsa.sig.size = static_cast<UINT16>(signature.size());
        std::ranges::copy(signature, rsa.sig.buffer);
        return out;
    }
    if (signature.size() > max_signature_size)
        return bad_signature("is too long");
    const Owned<ECDSA_SIG> parsed = ecdsa_of(signature);
    const Bytes r = parsed ? padded(ECDSA_SIG_get0_r(parsed.get()), coordinate_size) : Bytes();
    const Bytes s = parsed ? padded(ECDSA_SIG_get0_s(parsed.get()), coordinate_size) : Bytes();
    if (r.empty() || s.empty())
        return bad_signature("is not what openssl writes for this kind of key");
    auto& ecdsa = out.signature.ecdsa;
    out.sigAlg = TPM2_ALG_ECDSA;
    ecdsa.hash = TPM2_ALG_SHA256;
    ecdsa.signatureR.size = ecdsa.signatureS.size = static_cast<UINT16>(coordinate_size);
    std::ranges::copy(r, ecdsa.signatureR.buffer);
    std::ranges::copy(s, ecdsa.signatureS.buffer);
    return out;
}

}  // namespace vtpm::chip
