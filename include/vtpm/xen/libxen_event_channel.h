// LibxenEventChannel: EventChannel on libxenevtchn. Owns a /dev/xen/evtchn handle with exactly one
// port, so the descriptor can be the only one that a jailed process keeps.
//
// After binding it needs these system calls on fd(): poll, read, write (unmask) and
// ioctl(IOCTL_EVTCHN_NOTIFY). Closing needs close.
#pragma once

#include <cstdint>
#include <memory>

#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/event_channel.h"

struct xenevtchn_handle;

namespace vtpm::xen {

class LibxenEventChannel final : public EventChannel {
  public:
    // The back end's way: binds to the port that the guest left open for us. Works again with the
    // same port after an earlier binding went away (Xen turns the guest's port back to unbound),
    // and Xen makes an event pending at once.
    static Result<std::unique_ptr<LibxenEventChannel>> bind(DomainId domid, std::uint32_t port);
    // The front end's way: a new port that only `peer` may bind to.
    static Result<std::unique_ptr<LibxenEventChannel>> bind_unbound(DomainId peer);

    ~LibxenEventChannel() override;
    LibxenEventChannel(const LibxenEventChannel&) = delete;
    LibxenEventChannel& operator=(const LibxenEventChannel&) = delete;

    // From here on the handle can bind to no other domain (xenevtchn_restrict). Cannot be undone.
    Result<void> restrict_to(DomainId domid);

    std::uint32_t port() const { return port_; }  // the local one

    int fd() const override;
    Result<void> notify() override;
    Result<void> consume() override;

  private:
    explicit LibxenEventChannel(xenevtchn_handle* handle) : handle_(handle) {}
    static Result<std::unique_ptr<LibxenEventChannel>> open();
    Result<void> adopt(int port_or_error);

    xenevtchn_handle* handle_;
    std::uint32_t port_ = 0;
};

}  // namespace vtpm::xen
