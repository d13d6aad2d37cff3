// A hand-made event log, as firmware writes it, or as it should not.
#pragma once

#include <openssl/sha.h>

#include <string_view>

#include "event_log.h"

namespace vtpm::tests {

inline control::PcrDigest digest_of(std::string_view text) {
    control::PcrDigest digest{};
    ::SHA256(as_bytes(text).data(), text.size(), digest.data());
    return digest;
}

class LogBuilder {
  public:
    LogBuilder& u8(std::uint8_t value) {
        bytes_.push_back(value);
        return *this;
    }
    LogBuilder& u16(std::uint16_t value) {
        return u8(static_cast<std::uint8_t>(value)).u8(static_cast<std::uint8_t>(value >> 8U));
    }
    LogBuilder& u32(std::uint32_t value) {
        return u16(static_cast<std::uint16_t>(value)).u16(static_cast<std::uint16_t>(value >> 16U));
    }
    LogBuilder& zeros(std::size_t count) {
        bytes_.resize(bytes_.size() + count);
        return *this;
    }
    LogBuilder& bytes(ByteView value) {
        bytes_.insert(bytes_.end(), value.begin(), value.end());
        return *this;
    }
    LogBuilder& text(std::string_view value) { return bytes(as_bytes(value)); }

    // The first event: SHA-1 and SHA-256.
    LogBuilder& begin() {
        u32(0).u32(3).zeros(20).u32(16 + 8 + 4 + 8 + 1);
        text("Spec ID Event03").u8(0);
        u32(0).u8(0).u8(2).u8(0).u8(2);
        u32(2).u16(0x0004).u16(20).u16(0x000b).u16(32);
        return u8(0);
    }
    LogBuilder& event(std::uint32_t pcr, std::uint32_t type, const control::PcrDigest& digest,
                      std::string_view data) {
        u32(pcr).u32(type).u32(2).u16(0x0004).zeros(20).u16(0x000b).bytes(digest);
        return u32(static_cast<std::uint32_t>(data.size())).text(data);
    }
    LogBuilder& measure(std::uint32_t pcr, std::string_view what) {
        return event(pcr, 0x0d, digest_of(what), what);
    }
    LogBuilder& locality(std::uint8_t number) {
        std::string data("StartupLocality\0", 16);
        data.push_back(static_cast<char>(number));
        return event(0, 3, {}, data);
    }

    const Bytes& written() const { return bytes_; }

  private:
    Bytes bytes_;
};

// Started at locality 3; firmware, shim and kernel are measured, the kernel twice.
inline LogBuilder usual_log() {
    return LogBuilder()
        .begin()
        .locality(3)
        .measure(0, "firmware")
        .measure(4, "shim")
        .measure(4, "kernel")
        .event(0xffffffff, 3, {}, "a note")
        .measure(9, "kernel")
        .measure(7, "policy");
}

}  // namespace vtpm::tests
