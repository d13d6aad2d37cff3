// The guest's kernel's own driver of the device, xen-tpmfront, which knows TPM 1.2 only and takes
// any vtpm device that it finds. One thread.
#pragma once

#include <string>

#include "vtpm/base/result.h"

namespace vtpm::front {

// Takes the device (a name as in /sys/bus/xen/devices, "vtpm-0") from the driver, if it has it.
Result<void> take_from_kernel(const std::string& device);

// Loads the driver, for the kernel to take its devices. Replaces this process by modprobe(8).
Result<void> leave_to_kernel();

}  // namespace vtpm::front
