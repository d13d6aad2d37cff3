#include "vtpm/base/bytes.h"

#include <openssl/crypto.h>

namespace vtpm {
namespace {

int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

}  // namespace

ByteView as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string to_hex(ByteView bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const auto byte : bytes) {
        text.push_back(digits[byte >> 4U]);
        text.push_back(digits[byte & 0xfU]);
    }
    return text;
}

Result<Bytes> from_hex(std::string_view text) {
    if (text.size() % 2 != 0)
        return fail(Errc::malformed, "odd number of hex digits");
    Bytes bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = hex_digit(text[i]);
        const int low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return fail(Errc::malformed, "not a hex digit");
        bytes.push_back(static_cast<std::uint8_t>(high * 16 + low));
    }
    return bytes;
}

bool equal_constant_time(ByteView a, ByteView b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<std::uint64_t> ByteReader::number(std::size_t size) {
    VTPM_TRY(const ByteView raw, bytes(size));
    std::uint64_t value = 0;
    for (const auto byte : raw)
        value = (value << 8U) | byte;
    return value;
}

Result<std::uint8_t> ByteReader::u8() {
    VTPM_TRY(const auto value, number(1));
    return static_cast<std::uint8_t>(value);
}

Result<std::uint16_t> ByteReader::u16() {
    VTPM_TRY(const auto value, number(2));
    return static_cast<std::uint16_t>(value);
}

Result<std::uint32_t> ByteReader::u32() {
    VTPM_TRY(const auto value, number(4));
    return static_cast<std::uint32_t>(value);
}

Result<std::uint64_t> ByteReader::u64() {
    return number(8);
}

Result<ByteView> ByteReader::bytes(std::size_t size) {
    if (size > bytes_.size())
        return fail(Errc::malformed, "ends too early");
    const ByteView head = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return head;
}

ByteWriter& ByteWriter::number(std::uint64_t value, std::size_t size) {
    for (std::size_t i = size; i > 0; --i) {
        bytes_.push_back(static_cast<std::uint8_t>(value >> (8U * (i - 1))));
    }
    return *this;
}

ByteWriter& ByteWriter::u8(std::uint8_t value) {
    return number(value, 1);
}
ByteWriter& ByteWriter::u16(std::uint16_t value) {
    return number(value, 2);
}
ByteWriter& ByteWriter::u32(std::uint32_t value) {
    return number(value, 4);
}
ByteWriter& ByteWriter::u64(std::uint64_t value) {
    return number(value, 8);
}

ByteWriter& ByteWriter::bytes(ByteView value) {
    bytes_.insert(bytes_.end(), value.begin(), value.end());
    return *this;
}

ByteWriter& ByteWriter::sized(ByteView value) {
    return u32(static_cast<std::uint32_t>(value.size())).bytes(value);
}

}  // namespace vtpm
