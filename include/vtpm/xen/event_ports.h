// EventPorts: where a front end gets an event port that its back end can bind to. A contract;
// LibxenEventPorts is /dev/xen/evtchn. Used on one thread.
#pragma once

#include <cstdint>
#include <memory>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/event_channel.h"

namespace vtpm::xen {

struct OpenPort {
    std::unique_ptr<EventChannel> channel;
    std::uint32_t port;
};

class EventPorts {
  public:
    virtual ~EventPorts() = default;
    virtual Result<OpenPort> open(DomainId peer) = 0;
};

}  // namespace vtpm::xen
