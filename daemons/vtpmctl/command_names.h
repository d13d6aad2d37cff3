// The names that the TCG gives the TPMs' commands. No state, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vtpm/base/result.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {

// "TPM2_NV_Write", "nv_write" or "0x137"; a number is taken as it is. Errc::invalid_argument.
Result<std::uint32_t> command_code(tpm::Version version, std::string_view text);

// "TPM2_NV_Write"; of a code without a name 0x and 8 hex digits.
std::string command_name(tpm::Version version, std::uint32_t code);

}  // namespace vtpm::control
