// What a TPM 1.2 says and is told, as bytes: numbers, PCR structures, SHA-1 and its HMAC.
//
// TCG TPM Main 1.2 revision 116, Part 2 (structures), Part 3 (ordinals). Private to the chip room;
// free of threads.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "vtpm/base/bytes.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip::tpm12 {

inline constexpr std::size_t sha1_size = 20;
using Sha1 = std::array<std::uint8_t, sha1_size>;
using Views = std::initializer_list<ByteView>;

enum class Ordinal : std::uint32_t {
    oiap = 0x0a,
    osap = 0x0b,
    take_ownership = 0x0d,
    pcr_read = 0x15,
    seal = 0x17,
    unseal = 0x18,
    get_random = 0x46,
    continue_self_test = 0x53,
    get_capability = 0x65,
    read_pubek = 0x7c,
    startup = 0x99,
    flush_specific = 0xba,
    nv_define_space = 0xcc,
    nv_write_value_auth = 0xce,
    nv_read_value_auth = 0xd0,
};

enum class Code : std::uint32_t {  // TPM_RESULT, Part 2 clause 16
    success = 0,
    auth_fail = 1,
    bad_index = 2,
    deactivated = 6,
    disabled = 7,
    not_sealed_blob = 19,
    self_test_failed = 28,
    auth2_fail = 29,
    no_space = 17,
    no_srk = 18,
    resources = 21,
    wrong_pcr_value = 24,
    bad_tag = 30,
    decrypt_error = 33,
    invalid_auth_handle = 34,
    no_endorsement = 35,
    invalid_postinit = 38,
    bad_datasize = 43,
    bad_version = 46,
    area_locked = 60,
    retry = 0x800,
    needs_self_test = 0x801,
    doing_self_test = 0x802,
    defend_lock_running = 0x803,
};

inline constexpr std::uint32_t srk_handle = 0x40000000;
inline constexpr std::uint32_t owner_handle = 0x40000001;
inline constexpr std::uint32_t rt_auth = 2;  // TPM_RT_AUTH
inline constexpr std::uint8_t any_locality = 0x1f;

// TPM 1.2 Main, Part 1: what everybody may know, TSS_WELL_KNOWN_SECRET.
inline constexpr Sha1 well_known{};

Sha1 sha1(Views parts);
Sha1 hmac_sha1(ByteView key, Views parts);
Bytes u32_bytes(std::uint32_t value);
SecretBytes joined(Views parts);

// TPM_PCR_SELECTION, over PCRs 0 to 23.
Bytes pcr_selection(const PcrValues& pcrs);
// The digest of a TPM_PCR_COMPOSITE of these values.
Sha1 composite_hash(const PcrValues& pcrs);
// A PCR's value as the contract has it: SHA-1 and zeros.
Digest padded(ByteView value);

}  // namespace vtpm::chip::tpm12
