// FrontEnd: a guest's half of one device on the simulated Xen: it owns the ring page and the event
// port, and waits for a back end that maps and binds them by the numbers in address().
//
// Back ends may come and go, one at a time, as engines do. One thread, but for FrontRing::cancel().
#pragma once

#include <filesystem>

#include "vtpm/base/fd.h"
#include "vtpm/xen/back_device_owner.h"
#include "vtpm/xen/event_channel.h"
#include "vtpm/xen/front_ring.h"
#include "vtpm/xen/mapped_page.h"

namespace vtpm::fakes {

// A listening socket; whoever connected last is the other end.
class SimEventPort final : public xen::EventChannel {
  public:
    explicit SimEventPort(const std::filesystem::path& socket);

    int fd() const override { return either_.get(); }
    Result<void> notify() override;
    Result<void> consume() override;

  private:
    bool take_peer();

    Fd listener_;
    Fd either_;  // epoll: the listener or the peer
    Fd peer_;
};

class FrontEnd {
  public:
    // `directory` is SIMXEN_DIR.
    FrontEnd(const std::filesystem::path& directory, xen::DomainId domain);

    const xen::RingAddress& address() const { return address_; }
    xen::SharedPage page() const { return page_.page(); }
    SimEventPort& events() { return events_; }
    xen::FrontRing& ring() { return ring_; }
    std::uint8_t* raw() { return raw_; }  // for a guest that keeps no rules

    // A command and its answer; empty if there was none in time. `spin`: looks at the page instead
    // of sleeping on the event.
    Bytes transmit(ByteView command, bool spin = false);

  private:
    xen::RingAddress address_;
    std::uint8_t* raw_;
    xen::MappedPage page_;
    SimEventPort events_;
    xen::FrontRing ring_;
};

}  // namespace vtpm::fakes
