// How a machine that QEMU makes gets a TPM of ours: its arguments, and xl's lines for an HVM guest.
#pragma once

#include <string>
#include <vector>

#include "commands.h"

namespace vtpm::control {

// tpm-crb for a TPM 2.0; a TPM 1.2 has the older interface, tpm-tis.
std::vector<std::string> qemu_arguments(const wire::proto::Instance& instance);

Result<void> qemu(ManagerConnection& manager, const std::string& selector, Output output);

}  // namespace vtpm::control
