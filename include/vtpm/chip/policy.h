// What the policies of chip.h come to, in software: SHA-256 and signatures, no chip.
//
// EsysChip and the chips of tests answer from here, so that both mean the same. Free of threads.
// TCG TPM 2.0 Library, Part 1 clause 19.7 (policies) and 16 (Names), Part 3 clauses 23.7
// (PolicyPCR), 23.9 (PolicyNV), 23.11 (PolicyCommandCode), 23.16 (PolicyAuthorize).
#pragma once

#include <string>
#include <string_view>

#include "vtpm/chip/chip.h"

namespace vtpm::chip::policy {

// Chip::approver_key().
Result<Bytes> approver_key(std::string_view pem);

// Chip::approver_fingerprint().
Result<Digest> fingerprint(ByteView approver_key);

// Chip::words_to_sign().
Result<Bytes> words_to_sign(const Approver& approver, const PcrValues& pcrs, std::uint64_t limit);

// Chip::check_approval().
Result<void> check_approval(const Approver& approver, const Approval& approval);

// The authPolicy of what is sealed with this binding. Errc::invalid_argument if its approver's key
// is not one that approver_key() gives.
Result<Digest> digest_of(const Binding& binding);

// "4, 9": whose values in `wanted` are not those in `have`.
std::string differing(const PcrValues& wanted, const PcrValues& have);

}  // namespace vtpm::chip::policy
