#include "vtpm/tpm/factory.h"

#include <algorithm>
#include <array>

#include "command.h"

namespace vtpm::tpm {
namespace {

// Part 2, 6.3 (TPM_ALG_ID), 6.4 (TPM_ECC_CURVE), 7.4 (TPM_RH), 8.3 (TPMA_OBJECT).
constexpr std::uint16_t alg_rsa = 0x0001, alg_aes = 0x0006, alg_null = 0x0010, alg_ecc = 0x0023,
                        alg_cfb = 0x0043;
constexpr std::uint16_t curve_p256 = 0x0003;
constexpr std::uint32_t rh_owner = 0x40000001, rs_pw = 0x40000009, rh_endorsement = 0x4000000b,
                        rh_platform = 0x4000000c;
// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt
constexpr std::uint32_t ek_attributes = 0x000300b2;
constexpr std::size_t rsa_2048_bytes = 256, p256_bytes = 32;
// PolicySecret(TPM_RH_ENDORSEMENT), "PolicyA" of the profile.
constexpr std::array<std::uint8_t, 32> ek_policy = {
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
constexpr std::array<PcrBank, 4> all_banks = {PcrBank::sha1, PcrBank::sha256, PcrBank::sha384,
                                              PcrBank::sha512};

// An empty password: size of the area, then TPMS_AUTH_COMMAND.
ByteWriter& add_empty_password(ByteWriter& writer) {
    return writer.u32(9).u32(rs_pw).u16(0).u8(0).u16(0);
}

// A 16-bit length and the bytes: TPM2B.
ByteWriter& add_2b(ByteWriter& writer, ByteView bytes) {
    return writer.u16(static_cast<std::uint16_t>(bytes.size())).bytes(bytes);
}

// TPMT_PUBLIC of the low range: TPMT_SYM_DEF_OBJECT AES-128-CFB, no scheme, and a unique field of
// zeros as long as the key.
Bytes endorsement_template(EndorsementKey key) {
    const bool rsa = key == EndorsementKey::rsa_2048;
    ByteWriter writer;
    writer.u16(rsa ? alg_rsa : alg_ecc)
        .u16(static_cast<std::uint16_t>(PcrBank::sha256))  // nameAlg
        .u32(ek_attributes);
    add_2b(writer, ek_policy).u16(alg_aes).u16(128).u16(alg_cfb).u16(alg_null);
    if (rsa) {
        writer.u16(2048).u32(0);  // bits, default exponent
        return add_2b(writer, Bytes(rsa_2048_bytes)).take();
    }
    writer.u16(curve_p256).u16(alg_null);  // no key derivation
    add_2b(writer, Bytes(p256_bytes));
    return add_2b(writer, Bytes(p256_bytes)).take();
}

Result<PcrBanks> in_order(PcrBanks banks, Errc otherwise) {
    std::sort(banks.begin(), banks.end());
    if (std::adjacent_find(banks.begin(), banks.end()) != banks.end())
        return fail(otherwise, "a PCR bank is named twice");
    return banks;
}

}  // namespace

std::string_view to_string(PcrBank bank) {
    switch (bank) {
        case PcrBank::sha1:
            return "sha1";
        case PcrBank::sha256:
            return "sha256";
        case PcrBank::sha384:
            return "sha384";
        case PcrBank::sha512:
            return "sha512";
    }
    return "?";
}

Result<PcrBanks> parse_pcr_banks(std::span<const std::string> names) {
    PcrBanks banks;
    for (const auto& name : names) {
        const auto* const found =
            std::find_if(all_banks.begin(), all_banks.end(),
                         [&](PcrBank bank) { return to_string(bank) == name; });
        if (found == all_banks.end())
            return fail(Errc::invalid_argument,
                        "a TPM 2.0 here has PCRs of sha1, sha256, sha384 and sha512");
        banks.push_back(*found);
    }
    if (banks.empty())
        return fail(Errc::invalid_argument, "a TPM 2.0 has at least one bank of PCRs");
    return in_order(std::move(banks), Errc::invalid_argument);
}

Result<PcrBanks> pcr_banks_of(std::span<const std::uint32_t> numbers) {
    PcrBanks banks;
    for (const std::uint32_t number : numbers) {
        const auto* const found =
            std::find_if(all_banks.begin(), all_banks.end(),
                         [&](PcrBank bank) { return static_cast<std::uint32_t>(bank) == number; });
        if (found == all_banks.end())
            return fail(Errc::malformed, "no algorithm of a PCR bank");
        banks.push_back(*found);
    }
    if (banks.empty())
        banks.push_back(default_pcr_bank);
    return in_order(std::move(banks), Errc::malformed);
}

std::uint32_t persistent_handle(EndorsementKey key) {
    return key == EndorsementKey::rsa_2048 ? 0x81010001 : 0x81010002;
}

Bytes create_endorsement_key(EndorsementKey key) {
    ByteWriter rest;
    rest.u32(rh_endorsement);
    add_empty_password(rest).u16(4).u32(0);                 // inSensitive: no password, no data
    add_2b(rest, endorsement_template(key)).u16(0).u32(0);  // no outside info, no creation PCRs
    return message(st_sessions, 0x131, rest.written());
}

Bytes make_persistent(std::uint32_t object, std::uint32_t persistent) {
    ByteWriter rest;
    rest.u32(rh_owner).u32(object);
    add_empty_password(rest).u32(persistent);
    return message(st_sessions, 0x120, rest.written());
}

Bytes flush_context(std::uint32_t object) {
    return message(st_no_sessions, 0x165, ByteWriter().u32(object).written());
}

Bytes allocate_pcrs(const PcrBanks& banks) {
    ByteWriter rest;
    rest.u32(rh_platform);
    add_empty_password(rest).u32(static_cast<std::uint32_t>(all_banks.size()));
    for (const PcrBank bank : all_banks) {
        const bool wanted = std::find(banks.begin(), banks.end(), bank) != banks.end();
        const auto bits = static_cast<std::uint8_t>(wanted ? 0xff : 0);
        rest.u16(static_cast<std::uint16_t>(bank)).u8(3).u8(bits).u8(bits).u8(bits);
    }
    return message(st_sessions, 0x12b, rest.written());
}

bool has_allocated(ByteView answer) {
    const auto header = parse_header(answer);
    if (!header || header->code != 0)
        return false;
    ByteReader rest(answer.subspan(header_size));
    (void)rest.u32();  // the size of what follows
    return rest.u8().value_or(0) == 1;
}

Bytes ask_pcr_banks() {
    constexpr std::uint32_t cap_pcrs = 5, from_the_first = 0, all = 16;
    return message(st_no_sessions, 0x17a,
                   ByteWriter().u32(cap_pcrs).u32(from_the_first).u32(all).written());
}

// What has neither all nor none of its PCRs is no bank that can be wished for.
Result<bool> has_pcr_banks(ByteView answer, const PcrBanks& banks) {
    VTPM_TRY(const auto header, parse_header(answer));
    if (header.code != 0)
        return fail(Errc::unavailable, "the TPM does not say which banks of PCRs it has");
    ByteReader rest(answer.subspan(header_size));
    (void)rest.u8();   // whether there are more
    (void)rest.u32();  // the capability
    VTPM_TRY(const auto count, rest.u32());
    PcrBanks found;
    for (std::uint32_t i = 0; i < count; ++i) {
        VTPM_TRY(const auto bank, rest.u16());
        VTPM_TRY(const auto size, rest.u8());
        VTPM_TRY(const auto bits, rest.bytes(size));
        const auto all_are = [&](std::uint8_t value) {
            return std::all_of(bits.begin(), bits.end(),
                               [&](std::uint8_t byte) { return byte == value; });
        };
        if (all_are(0))
            continue;
        if (!all_are(0xff))
            return false;
        found.push_back(static_cast<PcrBank>(bank));
    }
    std::sort(found.begin(), found.end());
    return found == banks;
}

}  // namespace vtpm::tpm
