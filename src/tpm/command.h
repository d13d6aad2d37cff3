// How the messages that we make ourselves are put together. Private to the tpm room.
#pragma once

#include "vtpm/tpm/message.h"

namespace vtpm::tpm {

inline constexpr std::uint16_t tag_rqu_command = 0x00c1;  // TPM 1.2, no authorisation
inline constexpr std::uint16_t tag_rsp_command = 0x00c4;  // TPM 1.2
inline constexpr std::uint16_t st_no_sessions = 0x8001;   // TPM 2.0
inline constexpr std::uint16_t st_sessions = 0x8002;      // TPM 2.0

// The header, then `rest`.
inline Bytes message(std::uint16_t tag, std::uint32_t code, ByteView rest) {
    const auto size = static_cast<std::uint32_t>(header_size + rest.size());
    return ByteWriter().u16(tag).u32(size).u32(code).bytes(rest).take();
}

}  // namespace vtpm::tpm
