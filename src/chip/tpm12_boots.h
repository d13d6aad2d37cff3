// How a TPM 1.2's sealed objects and identity begin; see Chip's boots_of() and is_tpm12(). Private
// to the chip room.
#pragma once

#include <string_view>

#include "vtpm/chip/chip.h"

namespace vtpm::chip {

// A SealedObject's public area. Errc::invalid_argument for what no TPM 1.2 can seal to.
Result<Bytes> list_of_boots(const std::vector<PcrValues>& boots);

namespace tpm12 {

// ChipIdentity::srk_public is this, and a blob that only the chip of that storage root key unseals.
inline constexpr std::string_view identity_magic = "xen-vtpm 1.2 chip 1";

}  // namespace tpm12
}  // namespace vtpm::chip
