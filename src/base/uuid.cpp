#include "vtpm/base/uuid.h"

#include <openssl/rand.h>

#include <algorithm>
#include <stdexcept>

namespace vtpm {
namespace {

constexpr bool is_dash_position(std::size_t i) {
    return i == 8 || i == 13 || i == 18 || i == 23;
}

}  // namespace

Uuid Uuid::random() {
    Uuid uuid;
    if (RAND_bytes(uuid.bytes_.data(), static_cast<int>(size)) != 1) {
        throw std::runtime_error("no random numbers from OpenSSL");
    }
    uuid.bytes_[6] = static_cast<std::uint8_t>((uuid.bytes_[6] & 0x0fU) | 0x40U);
    uuid.bytes_[8] = static_cast<std::uint8_t>((uuid.bytes_[8] & 0x3fU) | 0x80U);
    return uuid;
}

Result<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != text_size)
        return fail(Errc::malformed, "not a uuid (36 characters)");
    std::string digits;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (!is_dash_position(i)) {
            digits.push_back(text[i]);
        } else if (text[i] != '-') {
            return fail(Errc::malformed, "not a uuid (8-4-4-4-12 digits)");
        }
    }
    auto raw = from_hex(digits);
    if (!raw)
        return fail(Errc::malformed, "not a uuid (hex digits)");
    return from_bytes(*raw);
}

Result<Uuid> Uuid::from_bytes(ByteView bytes) {
    if (bytes.size() != size)
        return fail(Errc::malformed, "a uuid has 16 bytes");
    Uuid uuid;
    std::copy(bytes.begin(), bytes.end(), uuid.bytes_.begin());
    return uuid;
}

std::string Uuid::to_string() const {
    std::string text = to_hex(bytes_);
    for (const std::size_t dash : {8U, 13U, 18U, 23U})
        text.insert(dash, 1, '-');
    return text;
}

}  // namespace vtpm
