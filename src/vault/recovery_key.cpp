#include "recovery_key.h"

#include <openssl/evp.h>

#include <algorithm>
#include <string_view>

namespace vtpm::vault {
namespace {

constexpr std::string_view first_line = "-----BEGIN PRIVATE KEY-----";
constexpr std::string_view last_line = "-----END PRIVATE KEY-----";

// SEQUENCE { 0, { ecPublicKey, prime256v1 }, OCTET STRING { SEQUENCE { 1, OCTET STRING (the scalar
constexpr std::array<std::uint8_t, 36> before_scalar{
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20};
// ), [1] BIT STRING (the point) } } }
constexpr std::array<std::uint8_t, 5> before_point{0xa1, 0x44, 0x03, 0x42, 0x00};
constexpr std::size_t der_size =
    before_scalar.size() + scalar_size + before_point.size() + point_size;
constexpr std::size_t base64_size = (der_size + 2) / 3 * 4;

tl::unexpected<Error> not_a_key() {
    return fail(Errc::invalid_argument, "not an unencrypted P-256 private key in PKCS#8 and PEM");
}

// The base64 characters between the two lines, without white space.
Result<SecretBytes> base64_of(ByteView text) {
    const auto begin = std::search(text.begin(), text.end(), first_line.begin(), first_line.end());
    if (begin == text.end()) {
        return not_a_key();
    }
    const auto body = begin + first_line.size();
    const auto end = std::search(body, text.end(), last_line.begin(), last_line.end());
    if (end == text.end()) {
        return not_a_key();
    }
    SecretBytes out(base64_size);
    std::size_t size = 0;
    for (auto at = body; at != end; ++at) {
        if (*at == '\n' || *at == '\r' || *at == ' ' || *at == '\t') {
            continue;
        }
        if (size == out.size()) {
            return not_a_key();
        }
        out.span()[size++] = *at;
    }
    if (size != out.size()) {
        return not_a_key();
    }
    return out;
}

}  // namespace

Result<RecoveryKeyParts> parse_recovery_key(const SecretBytes& pem) {
    VTPM_TRY(const SecretBytes base64, base64_of(pem.view()));
    SecretBytes der(base64_size / 4 * 3);  // with the padding, if there were any
    if (EVP_DecodeBlock(der.span().data(), base64.view().data(), static_cast<int>(base64.size())) !=
        static_cast<int>(der.size())) {
        return not_a_key();
    }
    ByteReader reader(der.view());
    VTPM_TRY(const ByteView head, reader.bytes(before_scalar.size()));
    VTPM_TRY(const ByteView scalar, reader.bytes(scalar_size));
    VTPM_TRY(const ByteView middle, reader.bytes(before_point.size()));
    VTPM_TRY(const ByteView point, reader.bytes(point_size));
    if (!std::equal(head.begin(), head.end(), before_scalar.begin()) ||
        !std::equal(middle.begin(), middle.end(), before_point.begin()) || reader.left() != 0) {
        return not_a_key();
    }
    return RecoveryKeyParts{SecretBytes::copy_of(scalar), Bytes(point.begin(), point.end())};
}

}  // namespace vtpm::vault
