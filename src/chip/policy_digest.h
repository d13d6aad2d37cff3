// The pieces of policy.h that the chip is asked to agree with. Private to the chip room.
#pragma once

#include "vtpm/chip/policy.h"

namespace vtpm::chip::policy {

Digest sha256(ByteView bytes);

// Names: the algorithm, then the digest of the public area (Part 1 clause 16).
Result<Bytes> name_of_key(ByteView approver_key);
Bytes name_of(const Counter& counter);
Bytes name_of(const Latch& latch);  // when it is open
Bytes name_when_closed(const Latch& latch);

// TPM2_PolicyPCR's pcrDigest. The values' own order is the chip's.
Digest digest_of(const PcrValues& pcrs);

// PolicyPCR, PolicyNV(counter <= limit). Errc::invalid_argument without PCRs, or for one above
// Chip::max_pcr.
Result<Digest> approved(const Counter& counter, const PcrValues& pcrs, std::uint64_t limit);

}  // namespace vtpm::chip::policy
