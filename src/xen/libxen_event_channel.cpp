#include "vtpm/xen/libxen_event_channel.h"

#include <poll.h>
extern "C" {  // Xen's headers do not say so themselves
#include <xenevtchn.h>
}

#include <cerrno>

#include "mute_log.h"

namespace vtpm::xen {

Result<std::unique_ptr<LibxenEventChannel>> LibxenEventChannel::open() {
    xenevtchn_handle* const handle = xenevtchn_open(mute_log(), 0);
    if (handle == nullptr)
        return fail_errno("opening the event channel device", errno);
    return std::unique_ptr<LibxenEventChannel>(new LibxenEventChannel(handle));
}

Result<void> LibxenEventChannel::adopt(int port_or_error) {
    if (port_or_error < 0)
        return fail_errno("binding an event channel", errno);
    port_ = static_cast<std::uint32_t>(port_or_error);
    return {};
}

Result<std::unique_ptr<LibxenEventChannel>> LibxenEventChannel::bind(DomainId domid,
                                                                     std::uint32_t port) {
    VTPM_TRY(auto channel, open());
    if (auto bound = channel->adopt(xenevtchn_bind_interdomain(channel->handle_, domid, port));
        !bound) {
        // As with a grant: the port's number is the guest's.
        return fail(Errc::malformed, NextAction::refuse,
                    "port " + std::to_string(port) + " of domain " + std::to_string(domid) +
                        " cannot be bound");
    }
    return channel;
}

Result<std::unique_ptr<LibxenEventChannel>> LibxenEventChannel::bind_unbound(DomainId peer) {
    VTPM_TRY(auto channel, open());
    VTPM_CHECK(channel->adopt(xenevtchn_bind_unbound_port(channel->handle_, peer)));
    return channel;
}

LibxenEventChannel::~LibxenEventChannel() {
    xenevtchn_close(handle_);
}

Result<void> LibxenEventChannel::restrict_to(DomainId domid) {
    if (xenevtchn_restrict(handle_, static_cast<domid_t>(domid)) != 0) {
        return fail_errno("restricting the event channel handle", errno);
    }
    return {};
}

int LibxenEventChannel::fd() const {
    return xenevtchn_fd(handle_);
}

Result<void> LibxenEventChannel::notify() {
    if (xenevtchn_notify(handle_, port_) != 0)
        return fail_errno("notifying the guest", errno);
    return {};
}

Result<void> LibxenEventChannel::consume() {
    // xenevtchn_pending() may block even on a non-blocking descriptor (xenevtchn.h): ask first.
    pollfd event{fd(), POLLIN, 0};
    const int ready = ::poll(&event, 1, 0);
    if (ready < 0 && errno != EINTR)
        return fail_errno("poll", errno);
    if (ready <= 0)
        return {};
    const int port = xenevtchn_pending(handle_);
    if (port < 0)
        return fail_errno("taking an event", errno);
    if (xenevtchn_unmask(handle_, static_cast<evtchn_port_t>(port)) != 0) {
        return fail_errno("unmasking the event channel", errno);
    }
    return {};
}

}  // namespace vtpm::xen
