// Which family of the TCG's TPM specifications an instance speaks.
#pragma once

#include <cstdint>
#include <string_view>

#include "vtpm/base/result.h"

namespace vtpm::tpm {

enum class Version : std::uint8_t { v1_2 = 1, v2_0 = 2 };  // stored on disk: do not renumber

std::string_view to_string(Version version);  // "1.2", "2.0"
Result<Version> parse_version(std::string_view text);
Result<Version> version_from_number(std::uint32_t number);

}  // namespace vtpm::tpm
