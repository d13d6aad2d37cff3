// Well-formed TPM commands for tests and benches, with sizes that are counted, not typed.
// TPM 2.0: TPM Library Part 3; TPM 1.2: TPM Main Part 3. Sessions are password sessions with an
// empty authorisation value.
#pragma once

#include "vtpm/base/bytes.h"

namespace vtpm::tpm_commands {

inline Bytes command(std::uint16_t tag, std::uint32_t code, const Bytes& body) {
    const auto size = static_cast<std::uint32_t>(10 + body.size());
    return ByteWriter().u16(tag).u32(size).u32(code).bytes(body).take();
}

namespace v12 {

inline Bytes get_random(std::uint32_t size) {
    return command(0xC1, 0x46, ByteWriter().u32(size).take());
}
inline Bytes pcr_read(std::uint32_t pcr) {
    return command(0xC1, 0x15, ByteWriter().u32(pcr).take());
}
inline Bytes extend(std::uint32_t pcr, std::uint8_t filler) {
    return command(0xC1, 0x14, ByteWriter().u32(pcr).bytes(Bytes(20, filler)).take());
}
inline constexpr std::uint32_t nv_index = 0x00011101;

// Without an owner a TPM takes these two as they are, but no more than 64 writes.
inline Bytes nv_define(std::uint32_t size) {
    const Bytes unbound =
        ByteWriter().u16(3).bytes(Bytes(3, 0)).u8(0x1F).bytes(Bytes(20, 0)).take();
    return command(0xC1, 0xCC,
                   ByteWriter()
                       .u16(0x18)  // TPM_TAG_NV_DATA_PUBLIC
                       .u32(nv_index)
                       .bytes(unbound)
                       .bytes(unbound)
                       .u16(0x17)  // TPM_TAG_NV_ATTRIBUTES
                       .u32(1)     // TPM_NV_PER_PPWRITE
                       .bytes(Bytes(3, 0))
                       .u32(size)
                       .bytes(Bytes(20, 0))
                       .take());
}
inline Bytes nv_write(const Bytes& data) {
    const auto size = static_cast<std::uint32_t>(data.size());
    return command(0xC1, 0xCD, ByteWriter().u32(nv_index).u32(0).u32(size).bytes(data).take());
}
inline Bytes nv_read(std::uint32_t size) {
    return command(0xC1, 0xCF, ByteWriter().u32(nv_index).u32(0).u32(size).take());
}
inline Bytes read_pubek() {
    return command(0xC1, 0x7C, Bytes(20, 0));
}

// An RSA-2048 key pair, for RSAES-OAEP
inline Bytes create_endorsement_key() {
    return command(0xC1, 0x78,
                   ByteWriter()
                       .bytes(Bytes(20, 0))
                       .u32(1)  // TPM_ALG_RSA
                       .u16(3)
                       .u16(1)   // no signatures
                       .u32(12)  // the size of what follows
                       .u32(2048)
                       .u32(2)
                       .u32(0)
                       .take());
}

}  // namespace v12

namespace v20 {

inline constexpr std::uint32_t owner = 0x40000001;
inline constexpr std::uint32_t endorsement = 0x4000000B;
inline constexpr std::uint32_t nv_index = 0x01800001;

// TPM_ST_SESSIONS with one password session after the handles
inline Bytes authorised(std::uint32_t code, const Bytes& handles, const Bytes& parameters) {
    return command(0x8002, code,
                   ByteWriter()
                       .bytes(handles)
                       .u32(9)
                       .u32(0x40000009)  // TPM_RS_PW
                       .u16(0)
                       .u8(0)
                       .u16(0)
                       .bytes(parameters)
                       .take());
}

inline Bytes get_random(std::uint16_t size) {
    return command(0x8001, 0x17B, ByteWriter().u16(size).take());
}
inline Bytes pcr_read(std::uint32_t pcr) {
    ByteWriter body;
    body.u32(1).u16(0x0B).u8(3);
    for (std::uint32_t i = 0; i < 3; ++i) {
        body.u8(static_cast<std::uint8_t>(pcr / 8 == i ? 1U << (pcr % 8) : 0));
    }
    return command(0x8001, 0x17E, body.take());
}
inline Bytes pcr_extend(std::uint32_t pcr, std::uint8_t filler) {
    return authorised(0x182, ByteWriter().u32(pcr).take(),
                      ByteWriter().u32(1).u16(0x0B).bytes(Bytes(32, filler)).take());
}
// An ordinary index: attributes OWNERWRITE, AUTHWRITE, OWNERREAD, AUTHREAD, NO_DA
inline Bytes nv_define(std::uint16_t size, std::uint32_t index = nv_index) {
    const Bytes area = ByteWriter().u32(index).u16(0x0B).u32(0x02060006).u16(0).u16(size).take();
    return authorised(
        0x12A, ByteWriter().u32(owner).take(),
        ByteWriter().u16(0).u16(static_cast<std::uint16_t>(area.size())).bytes(area).take());
}
inline Bytes nv_write(const Bytes& data, std::uint32_t index = nv_index) {
    return authorised(
        0x137, ByteWriter().u32(index).u32(index).take(),
        ByteWriter().u16(static_cast<std::uint16_t>(data.size())).bytes(data).u16(0).take());
}
inline Bytes nv_read(std::uint16_t size, std::uint32_t index = nv_index) {
    return authorised(0x14E, ByteWriter().u32(index).u32(index).take(),
                      ByteWriter().u16(size).u16(0).take());
}
inline Bytes flush_context(ByteView handle) {
    return command(0x8001, 0x165, ByteWriter().bytes(handle).take());
}
// An RSA-2048 storage key: a search for primes, the longest that one command can take
inline Bytes create_primary_rsa(std::uint8_t unique, std::uint32_t hierarchy = owner) {
    const Bytes area = ByteWriter()
                           .u16(0x0001)      // RSA
                           .u16(0x000B)      // SHA-256
                           .u32(0x00030472)  // fixedTPM.. restricted decrypt, noDA
                           .u16(0)           // no policy
                           .u16(0x0006)      // AES
                           .u16(128)
                           .u16(0x0043)  // CFB
                           .u16(0x0010)  // no scheme
                           .u16(2048)
                           .u32(0)
                           .u16(1)
                           .u8(unique)
                           .take();
    return authorised(0x131, ByteWriter().u32(hierarchy).take(),
                      ByteWriter()
                          .u16(4)
                          .u16(0)
                          .u16(0)
                          .u16(static_cast<std::uint16_t>(area.size()))
                          .bytes(area)
                          .u16(0)
                          .u32(0)
                          .take());
}

}  // namespace v20
}  // namespace vtpm::tpm_commands
