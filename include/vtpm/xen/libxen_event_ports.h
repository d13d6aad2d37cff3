// LibxenEventPorts: EventPorts on libxenevtchn.
#pragma once

#include "vtpm/xen/event_ports.h"

namespace vtpm::xen {

class LibxenEventPorts final : public EventPorts {
  public:
    Result<OpenPort> open(DomainId peer) override;
};

}  // namespace vtpm::xen
