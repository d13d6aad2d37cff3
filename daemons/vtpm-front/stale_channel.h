// What is left of an event channel after the domain was suspended and resumed: a descriptor that
// must not be closed. Linux forgets at a resume which interrupt it belongs to, and stops whoever
// closes it with "kernel BUG at drivers/xen/evtchn.c" (BUG_ON in evtchn_unbind_from_user; 6.1 and
// others). So somebody keeps it until the machine is off.
#pragma once

#include <memory>

#include "vtpm/xen/event_channel.h"

namespace vtpm::front {

// Leaves it to a process that does nothing and that no service manager ends
// (https://systemd.io/ROOT_STORAGE_DAEMONS/): argv[0] of this program is `name`.
void lay_aside(std::unique_ptr<xen::EventChannel> channel, char* name);

}  // namespace vtpm::front
