// TPM structures to bytes and back, exactly: no byte left over, none missing. Part 2 clause 12.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"

namespace vtpm::chip {

Result<Bytes> marshal(const TPM2B_PUBLIC& value);
Result<Bytes> marshal(const TPM2B_PRIVATE& value);

// Equal as marshalled; false if one cannot be.
bool same(const TPM2B_PUBLIC& a, const TPM2B_PUBLIC& b);

// Errc::corrupt if `bytes` is anything but one such structure.
Result<TPM2B_PUBLIC> unmarshal_public(ByteView bytes);
Result<TPM2B_PRIVATE> unmarshal_private(ByteView bytes);

}  // namespace vtpm::chip
