// Uuid: RFC 4122 bytes and their 36-character text, parsed strictly (no braces, no short forms).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "vtpm/base/bytes.h"

namespace vtpm {

class Uuid {
  public:
    static constexpr std::size_t size = 16;
    static constexpr std::size_t text_size = 36;

    Uuid() = default;      // the nil uuid
    static Uuid random();  // version 4; throws std::runtime_error if there is no randomness
    static Result<Uuid> parse(std::string_view text);
    static Result<Uuid> from_bytes(ByteView bytes);

    std::string to_string() const;  // lower case
    ByteView bytes() const { return bytes_; }
    bool is_nil() const { return *this == Uuid(); }

    auto operator<=>(const Uuid&) const = default;

  private:
    std::array<std::uint8_t, size> bytes_{};
};

}  // namespace vtpm
