// What the kernel says of the host's TPM devices. No state, any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "vtpm/chip/chip.h"

namespace vtpm::chip {

inline constexpr const char* kernel_devices = "/sys/class/tpm";

// Of the device behind `tcti` ("device:/dev/tpm0"); none if it is no device, or the kernel does not
// say.
std::optional<Generation> generation_by_kernel(
    const std::string& tcti, const std::filesystem::path& devices = kernel_devices);

// Where the chip of `tcti` is now: there, or under the number that the kernel gave it when its
// driver found it once more. Its old number stays taken as long as somebody holds the old device
// (IMA does for the whole boot). Looked for only if the kernel does not have that of `tcti`, and
// taken only if there is exactly one other that is hardware's; whether it is the same chip, its
// identity has to tell (Chip::expect).
std::string present_tcti(const std::string& tcti,
                         const std::filesystem::path& devices = kernel_devices);

}  // namespace vtpm::chip
