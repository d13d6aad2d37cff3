#include "vtpm/xen/libxen_event_ports.h"

#include "vtpm/xen/libxen_event_channel.h"

namespace vtpm::xen {

Result<OpenPort> LibxenEventPorts::open(DomainId peer) {
    VTPM_TRY(auto channel, LibxenEventChannel::bind_unbound(peer));
    const auto port = channel->port();
    return OpenPort{std::move(channel), port};
}

}  // namespace vtpm::xen
