// The system calls that a jailed engine may make, one reason a line.
#pragma once

#include <vector>

#include "vtpm/jail/syscall_filter.h"

namespace vtpm::engine_program {

// Those of every engine, whatever its front.
std::vector<jail::AllowedCall> allowed_calls();
// And of one with a ring: `event_channel` is the descriptor of /dev/xen/evtchn, the only one that
// ioctl may name.
std::vector<jail::AllowedCall> allowed_calls(int event_channel);

}  // namespace vtpm::engine_program
