// Byte strings of the outside world: views, and a reader and a writer that cannot run over.
//
// Multi-byte numbers are big-endian unless the name says otherwise (TCG structures are). A reader
// owns nothing: the bytes must outlive it. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vtpm/base/result.h"

namespace vtpm {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;
using MutableByteView = std::span<std::uint8_t>;

ByteView as_bytes(std::string_view text);
std::string to_hex(ByteView bytes);
Result<Bytes> from_hex(std::string_view text);

// Equal in content; the time taken depends on the lengths only.
bool equal_constant_time(ByteView a, ByteView b);

class ByteReader {
  public:
    explicit ByteReader(ByteView bytes) : bytes_(bytes) {}

    Result<std::uint8_t> u8();
    Result<std::uint16_t> u16();
    Result<std::uint32_t> u32();
    Result<std::uint64_t> u64();
    Result<ByteView> bytes(std::size_t size);

    std::size_t left() const { return bytes_.size(); }
    ByteView rest() const { return bytes_; }

  private:
    Result<std::uint64_t> number(std::size_t size);

    ByteView bytes_;
};

class ByteWriter {
  public:
    ByteWriter& u8(std::uint8_t value);
    ByteWriter& u16(std::uint16_t value);
    ByteWriter& u32(std::uint32_t value);
    ByteWriter& u64(std::uint64_t value);
    ByteWriter& bytes(ByteView value);
    // A u32 length, then the bytes: what goes into a MAC or a hash must not be able to shift.
    ByteWriter& sized(ByteView value);

    const Bytes& written() const { return bytes_; }
    Bytes take() { return std::move(bytes_); }

  private:
    ByteWriter& number(std::uint64_t value, std::size_t size);

    Bytes bytes_;
};

}  // namespace vtpm
