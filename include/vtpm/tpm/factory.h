// What makes a new TPM 2.0 the one that its users expect: the commands that a factory gives, and a
// few of what they name. Built; of answers, those about PCR banks are read. At locality 0, in a TPM
// whose hierarchies have empty authorisation.
//
// TPM Library Part 3: 24.1 CreatePrimary, 28.4 FlushContext, 28.5 EvictControl, 22.5 PCR_Allocate,
// 30.2 GetCapability.
// EK templates and handles: TCG EK Credential Profile 2.5, B.3.3 and B.3.4 (L-1, L-2, "low range"),
// and Registry of Reserved TPM 2.0 Handles 1.1. Plain functions, any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "vtpm/base/bytes.h"

namespace vtpm::tpm {

// A hash algorithm of PCRs, TPM_ALG_ID (Part 2, 6.3).
enum class PcrBank : std::uint16_t {
    sha1 = 0x0004,
    sha256 = 0x000b,
    sha384 = 0x000c,
    sha512 = 0x000d
};
using PcrBanks = std::vector<PcrBank>;  // in the order of their numbers, each once

inline constexpr PcrBank default_pcr_bank = PcrBank::sha256;

// "sha256". Errc::invalid_argument: no such one, or none, or one twice.
Result<PcrBanks> parse_pcr_banks(std::span<const std::string> names);
// Errc::malformed: no such one, or one twice. None: the default.
Result<PcrBanks> pcr_banks_of(std::span<const std::uint32_t> numbers);
std::string_view to_string(PcrBank bank);

enum class EndorsementKey { rsa_2048, ecc_p256 };

// Where a TPM's users look for it.
std::uint32_t persistent_handle(EndorsementKey key);

// The answer's code is 0 and its first handle the key's.
Bytes create_endorsement_key(EndorsementKey key);
Bytes make_persistent(std::uint32_t object, std::uint32_t persistent);
Bytes flush_context(std::uint32_t object);
// These banks and no others, from the next start on.
Bytes allocate_pcrs(const PcrBanks& banks);
// Whether that is what will be, if this is its whole answer.
bool has_allocated(ByteView answer);
// Which banks there are now.
Bytes ask_pcr_banks();
// Whether they are these, with all their PCRs, and no others, if this is its whole answer.
Result<bool> has_pcr_banks(ByteView answer, const PcrBanks& banks);

}  // namespace vtpm::tpm
