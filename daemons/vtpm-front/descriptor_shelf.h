// The one descriptor that systemd keeps for the next vtpm-front of the same unit: the proxy TPM's,
// so that a restart does not change the chip's number. sd_pid_notify_with_fds(3), FDSTORE=1.
// systemd drops it by itself once the kernel has given the TPM up. Without systemd nothing is kept.
#pragma once

#include <optional>

#include "vtpm/base/fd.h"

namespace vtpm::front {

// What the one before us left; takes it out of the environment. Call it once, on one thread.
std::optional<Fd> take_left_chip();
void leave_chip(int descriptor);

}  // namespace vtpm::front
