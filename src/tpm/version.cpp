#include "vtpm/tpm/version.h"

#include <string>

namespace vtpm::tpm {

std::string_view to_string(Version version) {
    return version == Version::v1_2 ? "1.2" : "2.0";
}

Result<Version> parse_version(std::string_view text) {
    if (text == "1.2")
        return Version::v1_2;
    if (text == "2.0")
        return Version::v2_0;
    return fail(Errc::invalid_argument, "a TPM version is 1.2 or 2.0");
}

Result<Version> version_from_number(std::uint32_t number) {
    if (number == static_cast<std::uint32_t>(Version::v1_2))
        return Version::v1_2;
    if (number == static_cast<std::uint32_t>(Version::v2_0))
        return Version::v2_0;
    return fail(Errc::malformed, "unknown TPM version number " + std::to_string(number));
}

}  // namespace vtpm::tpm
