#include "vtpm/vault/escrow.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <memory>

#include "hash.h"
#include "p256.h"

namespace vtpm::vault {
namespace {

constexpr std::string_view magic = "XVTPMESC";
constexpr std::uint32_t escrow_version = 2;

struct FreeKey {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(BIO* bio) const { BIO_free(bio); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

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

Result<P256Key> key_of_pem(const SecretBytes& pem) {
    VTPM_TRY(const RecoveryKeyParts parts, parse_recovery_key(pem));
    return P256Key::from_parts(parts);
}

// What a wrapped key is bound to: the vault, and whose key it is.
Bytes about(const Uuid& manager, const Uuid& owner) {
    return ByteWriter()
        .bytes(as_bytes("xen-vtpm escrow 2"))
        .bytes(manager.bytes())
        .bytes(owner.bytes())
        .take();
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

Result<Bytes> recovery_public(const SecretBytes& pem) {
    VTPM_TRY(const P256Key key, key_of_pem(pem));
    return key.point();
}

Result<Bytes> recovery_public(std::string_view pem) {
    const std::unique_ptr<BIO, FreeKey> text(
        BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<std::size_t>(pem.size(), 16384))));
    const Key key(text ? PEM_read_bio_PUBKEY(text.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!key || EVP_PKEY_is_a(key.get(), "EC") != 1)
        return fail(Errc::invalid_argument, "not a P-256 public key in PEM");
    VTPM_TRY(const Bytes point, point_of(key.get()));
    VTPM_CHECK(check_point(point));  // P-256 and no other curve
    return point;
}

Result<Bytes> make_escrow(ByteView recovery_public_point, const EscrowedKey& key) {
    VTPM_TRY(const WrappedFor wrapped,
             wrap_for(recovery_public_point, about(key.manager, key.owner), key.key));
    return ByteWriter()
        .bytes(as_bytes(magic))
        .u32(escrow_version)
        .bytes(key.manager.bytes())
        .bytes(key.owner.bytes())
        .sized(recovery_public_point)
        .sized(wrapped.ephemeral)
        .sized(wrapped.wrapped)
        .take();
}

Result<EscrowedKey> open_escrow(const SecretBytes& pem, ByteView blob) {
    VTPM_TRY(const P256Key own, key_of_pem(pem));
    auto envelope = parse(blob);
    if (!envelope) {
        if (envelope.error().code == Errc::unsupported)
            return tl::make_unexpected(envelope.error());
        return fail(Errc::corrupt, "the escrow is damaged");
    }
    if (!equal_constant_time(own.point(), envelope->recipient)) {
        return fail(Errc::invalid_argument, "this is not the recovery key of this vault");
    }
    EscrowedKey out{envelope->manager, envelope->owner, {}};
    VTPM_TRY(out.key, unwrap_with(own, envelope->ephemeral, about(out.manager, out.owner),
                                  envelope->wrapped));
    if (out.key.size() != key_size)
        return fail(Errc::corrupt, "the escrow is damaged");
    return out;
}

}  // namespace vtpm::vault
