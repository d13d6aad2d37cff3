#include "vtpm/vault/escrow.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <memory>

#include "hash.h"
#include "key_wrap.h"
#include "recovery_key.h"

namespace vtpm::vault {
namespace {

constexpr std::string_view magic = "XVTPMESC";
constexpr std::uint32_t escrow_version = 2;

struct FreeKey {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(BIGNUM* number) const { BN_clear_free(number); }
    void operator()(BIO* bio) const { BIO_free(bio); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeKey>;
using Number = std::unique_ptr<BIGNUM, FreeKey>;

tl::unexpected<Error> openssl_failed(const char* what) {
    return fail(Errc::unavailable, std::string(what) + " failed");
}

Result<Key> make_key() {
    Key key(EVP_EC_gen("P-256"));
    if (!key)
        return openssl_failed("making a P-256 key");
    return key;
}

Result<Bytes> point_of(EVP_PKEY* key) {
    Bytes point(point_size);
    std::size_t size = 0;
    if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size(),
                                        &size) != 1 ||
        size != point_size || point[0] != 0x04) {
        return fail(Errc::invalid_argument, "not a P-256 key");
    }
    return point;
}

Result<Key> key_of_point(ByteView point) {
    if (point.size() != point_size)
        return fail(Errc::corrupt, "not a point of P-256");
    std::array<char, 6> group{"P-256"};
    Bytes copy(point.begin(), point.end());
    std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, copy.data(), copy.size()),
        OSSL_PARAM_construct_end()};
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* key = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.data()) != 1) {
        return fail(Errc::corrupt, "not a point of P-256");
    }
    return Key(key);
}

Result<Key> key_of_pem(const SecretBytes& pem) {
    VTPM_TRY(RecoveryKeyParts parts, parse_recovery_key(pem));
    std::reverse(parts.scalar.span().begin(), parts.scalar.span().end());  // numbers are native
    std::array<char, 6> group{"P-256"};
    std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, parts.scalar.span().data(),
                                parts.scalar.size()),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, parts.point.data(),
                                          parts.point.size()),
        OSSL_PARAM_construct_end()};
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* made = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_KEYPAIR, parameters.data()) != 1) {
        return fail(Errc::invalid_argument, "not a P-256 key");
    }
    Key key(made);
    const KeyContext check(EVP_PKEY_CTX_new(key.get(), nullptr));
    if (!check || EVP_PKEY_check(check.get()) != 1) {
        return fail(Errc::invalid_argument, "a P-256 key whose halves do not fit");
    }
    return key;
}

// The key that wraps: bound to both points, to the vault, and to whose key it is.
Result<SecretBytes> agree(EVP_PKEY* own, EVP_PKEY* peer, ByteView ephemeral, ByteView recipient,
                          const Uuid& manager, const Uuid& owner) {
    const KeyContext context(EVP_PKEY_CTX_new(own, nullptr));
    SecretBytes shared(key_size);
    std::size_t size = shared.size();
    // set_peer also checks that the point is on the curve.
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer(context.get(), peer) != 1 ||
        EVP_PKEY_derive(context.get(), shared.span().data(), &size) != 1 || size != key_size) {
        return fail(Errc::corrupt, "the two keys of an escrow do not fit");
    }
    const Bytes salt = ByteWriter().bytes(ephemeral).bytes(recipient).take();
    const Bytes info = ByteWriter()
                           .bytes(as_bytes("xen-vtpm escrow 2"))
                           .bytes(manager.bytes())
                           .bytes(owner.bytes())
                           .take();
    return hkdf_sha256(shared.view(), salt, info, key_size);
}

struct Envelope {
    Uuid manager;
    Uuid owner;
    ByteView recipient;
    ByteView ephemeral;
    ByteView wrapped;
};

Result<ByteView> sized(ByteReader& reader) {
    VTPM_TRY(const std::uint32_t size, reader.u32());
    return reader.bytes(size);
}

Result<Envelope> parse(ByteView blob) {
    ByteReader reader(blob);
    VTPM_TRY(const ByteView head, reader.bytes(magic.size()));
    if (!std::equal(head.begin(), head.end(), magic.begin())) {
        return fail(Errc::corrupt, "not an escrow");
    }
    VTPM_TRY(const std::uint32_t version, reader.u32());
    if (version != escrow_version) {
        return fail(Errc::unsupported, "an escrow of version " + std::to_string(version));
    }
    Envelope envelope;
    VTPM_TRY(const ByteView manager, reader.bytes(Uuid::size));
    VTPM_TRY(envelope.manager, Uuid::from_bytes(manager));
    VTPM_TRY(const ByteView owner, reader.bytes(Uuid::size));
    VTPM_TRY(envelope.owner, Uuid::from_bytes(owner));
    VTPM_TRY(envelope.recipient, sized(reader));
    VTPM_TRY(envelope.ephemeral, sized(reader));
    VTPM_TRY(envelope.wrapped, sized(reader));
    if (reader.left() != 0)
        return fail(Errc::corrupt, "an escrow with bytes left over");
    return envelope;
}

}  // namespace

Result<SecretBytes> make_recovery_key() {
    VTPM_TRY(const Key key, make_key());
    VTPM_TRY(const Bytes point, point_of(key.get()));
    BIGNUM* raw = nullptr;
    SecretBytes scalar(scalar_size);
    const bool got = EVP_PKEY_get_bn_param(key.get(), OSSL_PKEY_PARAM_PRIV_KEY, &raw) == 1;
    const Number number(raw);
    if (!got || BN_bn2binpad(number.get(), scalar.span().data(), static_cast<int>(scalar_size)) !=
                    static_cast<int>(scalar_size)) {
        return openssl_failed("reading a new key");
    }
    return recovery_key_text(scalar, point);
}

Result<Bytes> recovery_public(const SecretBytes& pem) {
    VTPM_TRY(const Key key, key_of_pem(pem));
    return point_of(key.get());
}

Result<Bytes> recovery_public(std::string_view pem) {
    const std::unique_ptr<BIO, FreeKey> text(
        BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<std::size_t>(pem.size(), 16384))));
    const Key key(text ? PEM_read_bio_PUBKEY(text.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!key || EVP_PKEY_is_a(key.get(), "EC") != 1)
        return fail(Errc::invalid_argument, "not a P-256 public key in PEM");
    VTPM_TRY(const Bytes point, point_of(key.get()));
    VTPM_CHECK(key_of_point(point));  // P-256 and no other curve
    return point;
}

Result<Bytes> make_escrow(ByteView recovery_public_point, const EscrowedKey& key) {
    VTPM_TRY(const Key recipient, key_of_point(recovery_public_point));
    VTPM_TRY(const Key ephemeral, make_key());
    VTPM_TRY(const Bytes ephemeral_point, point_of(ephemeral.get()));
    VTPM_TRY(const SecretBytes wrapping, agree(ephemeral.get(), recipient.get(), ephemeral_point,
                                               recovery_public_point, key.manager, key.owner));
    VTPM_TRY(const Bytes wrapped, wrap_key(wrapping, key.key));
    return ByteWriter()
        .bytes(as_bytes(magic))
        .u32(escrow_version)
        .bytes(key.manager.bytes())
        .bytes(key.owner.bytes())
        .sized(recovery_public_point)
        .sized(ephemeral_point)
        .sized(wrapped)
        .take();
}

Result<EscrowedKey> open_escrow(const SecretBytes& pem, ByteView blob) {
    VTPM_TRY(const Key own, key_of_pem(pem));
    VTPM_TRY(const Bytes own_point, point_of(own.get()));
    auto envelope = parse(blob);
    if (!envelope) {
        if (envelope.error().code == Errc::unsupported)
            return tl::make_unexpected(envelope.error());
        return fail(Errc::corrupt, "the escrow is damaged");
    }
    if (!equal_constant_time(own_point, envelope->recipient)) {
        return fail(Errc::invalid_argument, "this is not the recovery key of this vault");
    }
    VTPM_TRY(const Key ephemeral, key_of_point(envelope->ephemeral));
    VTPM_TRY(const SecretBytes wrapping,
             agree(own.get(), ephemeral.get(), envelope->ephemeral, envelope->recipient,
                   envelope->manager, envelope->owner));
    EscrowedKey out{envelope->manager, envelope->owner, {}};
    VTPM_TRY(out.key, unwrap_key(wrapping, envelope->wrapped));
    if (out.key.size() != key_size)
        return fail(Errc::corrupt, "the escrow is damaged");
    return out;
}

}  // namespace vtpm::vault
