#include "p256.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include <algorithm>
#include <array>

#include "hash.h"
#include "key_wrap.h"

namespace vtpm::vault {
namespace {

struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(BIGNUM* number) const { BN_clear_free(number); }
    void operator()(EC_GROUP* group) const { EC_GROUP_free(group); }
    void operator()(EC_POINT* point) const { EC_POINT_free(point); }
};
using Context = std::unique_ptr<EVP_PKEY_CTX, Free>;
using Number = std::unique_ptr<BIGNUM, Free>;

tl::unexpected<Error> openssl_failed(const char* what) {
    return fail(Errc::unavailable, std::string(what) + " failed");
}

EVP_PKEY* from_parameters(const OSSL_PARAM* parameters, int selection) {
    const Context context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* key = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, selection, const_cast<OSSL_PARAM*>(parameters)) !=
            1) {
        return nullptr;
    }
    return key;
}

Result<std::unique_ptr<EVP_PKEY, Free>> key_of_point(ByteView point) {
    if (point.size() != point_size)
        return fail(Errc::corrupt, "not a point of P-256");
    std::array<char, 6> group{"P-256"};
    Bytes copy(point.begin(), point.end());
    const std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, copy.data(), copy.size()),
        OSSL_PARAM_construct_end()};
    std::unique_ptr<EVP_PKEY, Free> key(from_parameters(parameters.data(), EVP_PKEY_PUBLIC_KEY));
    if (!key)
        return fail(Errc::corrupt, "not a point of P-256");
    return key;
}

// The public half of a scalar.
Result<Bytes> point_of_scalar(const SecretBytes& scalar) {
    const std::unique_ptr<EC_GROUP, Free> curve(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
    const Number number(BN_secure_new());
    if (!curve || !number)
        return openssl_failed("making a P-256 key");
    if (scalar.size() != scalar_size ||
        BN_bin2bn(scalar.view().data(), static_cast<int>(scalar_size), number.get()) == nullptr ||
        BN_is_zero(number.get()) != 0 ||
        BN_cmp(number.get(), EC_GROUP_get0_order(curve.get())) >= 0) {
        return fail(Errc::invalid_argument, "not the scalar of a P-256 key");
    }
    BN_set_flags(number.get(), BN_FLG_CONSTTIME);
    const std::unique_ptr<EC_POINT, Free> point(EC_POINT_new(curve.get()));
    Bytes out(point_size);
    if (!point ||
        EC_POINT_mul(curve.get(), point.get(), number.get(), nullptr, nullptr, nullptr) != 1 ||
        EC_POINT_point2oct(curve.get(), point.get(), POINT_CONVERSION_UNCOMPRESSED, out.data(),
                           out.size(), nullptr) != point_size) {
        return openssl_failed("making a P-256 key");
    }
    return out;
}

// The key that wraps.
Result<SecretBytes> agree(EVP_PKEY* own, EVP_PKEY* peer, ByteView ephemeral, ByteView recipient,
                          ByteView about) {
    const Context context(EVP_PKEY_CTX_new(own, nullptr));
    SecretBytes shared(key_size);
    std::size_t size = shared.size();
    // set_peer also checks that the point is on the curve.
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer(context.get(), peer) != 1 ||
        EVP_PKEY_derive(context.get(), shared.span().data(), &size) != 1 || size != key_size) {
        return fail(Errc::corrupt, "two P-256 keys do not fit");
    }
    const Bytes salt = ByteWriter().bytes(ephemeral).bytes(recipient).take();
    return hkdf_sha256(shared.view(), salt, about, key_size);
}

}  // namespace

Result<P256Key> P256Key::random() {
    P256Key key;
    key.key_.reset(EVP_EC_gen("P-256"));
    key.point_.resize(point_size);
    std::size_t size = 0;
    if (!key.key_ ||
        EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_PUB_KEY, key.point_.data(),
                                        key.point_.size(), &size) != 1 ||
        size != point_size || key.point_[0] != 0x04) {
        return openssl_failed("making a P-256 key");
    }
    return key;
}

Result<P256Key> P256Key::from_scalar(const SecretBytes& scalar) {
    VTPM_TRY(Bytes point, point_of_scalar(scalar));
    return from_parts({scalar.clone(), std::move(point)});
}

Result<P256Key> P256Key::from_parts(const RecoveryKeyParts& parts) {
    SecretBytes native = parts.scalar.clone();
    std::reverse(native.span().begin(), native.span().end());
    P256Key key;
    key.point_ = parts.point;
    std::array<char, 6> group{"P-256"};
    const std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native.span().data(), native.size()),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, key.point_.data(),
                                          key.point_.size()),
        OSSL_PARAM_construct_end()};
    key.key_.reset(from_parameters(parameters.data(), EVP_PKEY_KEYPAIR));
    if (!key.key_)
        return fail(Errc::invalid_argument, "not a P-256 key");
    const Context check(EVP_PKEY_CTX_new(key.get(), nullptr));
    if (!check || EVP_PKEY_check(check.get()) != 1)
        return fail(Errc::invalid_argument, "a P-256 key whose halves do not fit");
    return key;
}

Result<void> check_point(ByteView point) {
    VTPM_CHECK(key_of_point(point));
    return {};
}

Result<WrappedFor> wrap_for(ByteView recipient, ByteView about, const SecretBytes& key) {
    VTPM_TRY(const auto peer, key_of_point(recipient));
    VTPM_TRY(const P256Key ephemeral, P256Key::random());
    VTPM_TRY(const SecretBytes wrapping,
             agree(ephemeral.get(), peer.get(), ephemeral.point(), recipient, about));
    VTPM_TRY(Bytes wrapped, wrap_key(wrapping, key));
    return WrappedFor{ephemeral.point(), std::move(wrapped)};
}

Result<SecretBytes> unwrap_with(const P256Key& own, ByteView ephemeral, ByteView about,
                                ByteView wrapped) {
    VTPM_TRY(const auto peer, key_of_point(ephemeral));
    VTPM_TRY(const SecretBytes wrapping,
             agree(own.get(), peer.get(), ephemeral, own.point(), about));
    return unwrap_key(wrapping, wrapped);
}

}  // namespace vtpm::vault
