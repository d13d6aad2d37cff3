// SimGuest: one guest on a SimHost: its domain, its vtpmd, and its half of the ring.
//
// The calls are what xl and the guest's kernel do, one by one; boot() and destroy() are the usual
// order of them. Problems of the host's own throw. One thread.
#pragma once

#include <memory>
#include <optional>

#include "fakes/simxen/sim_host.h"
#include "fakes/simxen/sim_service.h"
#include "vtpm/xen/front_device.h"
#include "vtpm/xen/libxen_event_ports.h"
#include "vtpm/xen/libxen_grant_share.h"

namespace vtpm::fakes {

// Shares pages and opens ports as `domain` does, and remembers the last of each for a guest that
// keeps no rules.
class GuestHands : public xen::GrantShare, public xen::EventPorts {
  public:
    explicit GuestHands(xen::DomainId domain) : domain_(domain) {}
    GuestHands(const GuestHands&) = delete;
    GuestHands& operator=(const GuestHands&) = delete;
    ~GuestHands() override { forget_page(); }

    Result<xen::GrantedPage> share(xen::DomainId peer) override;
    Result<xen::OpenPort> open(xen::DomainId peer) override;

    // As with Linux: a page's number is not free again before the back end has let go of it.
    void take_new_numbers() { new_numbers_ = true; }

    std::uint8_t* raw() const { return raw_; }
    xen::SharedPage page() const { return xen::SharedPage(raw_); }
    xen::EventChannel& events() const { return *events_; }

  private:
    void forget_page();

    xen::DomainId domain_;
    bool new_numbers_ = false;
    std::uint32_t last_ref_ = 0;
    std::uint8_t* raw_ = nullptr;  // the page once more
    xen::EventChannel* events_ = nullptr;
};

// A command and its answer; empty if there was none in time. `spin`: looks at the page instead of
// sleeping on the event.
Bytes transmit(xen::FrontRing& ring, ByteView command, bool spin = false);

class SimGuest {
  public:
    SimGuest(SimHost& host, xen::DomainId domain, const Uuid& uuid);
    SimGuest(const SimGuest&) = delete;
    SimGuest& operator=(const SimGuest&) = delete;
    ~SimGuest();

    // What xl restore would make of this file: before boot().
    void restore_from(std::uint32_t file) { file_ = file; }
    // xl save: what a restore has to know of the file; 0 if the back end did not let go. With `-c`
    // the guest goes on.
    std::uint32_t save();
    std::uint32_t save_and_go_on();

    // xl create up to the driver's first command: plugged in, vtpmd at state 2, connected.
    // False if vtpmd has refused (see refusal()) or did nothing in libxl's 10 s.
    bool boot();
    void plug();  // the domain, paused, and the device's nodes
    // As udev does when the nodes appear; `under`: a program, with its words, that runs it.
    void start_vtpmd(const std::vector<std::string>& under = {});
    // Before start_vtpmd(): what a vtpmd leaves in the descriptor store, the next one gets.
    void serve_as_unit();
    SimService& service() { return *service_; }
    bool announced();  // waits for state 2, or a refusal
    bool connect();    // the domain runs, its driver connects and waits for state 4
    bool offer();      // the same up to state 3: Linux's driver waits for nothing more
    std::string refusal();

    // xl destroy: true if the back end let go within libxl's 10 s and vtpmd has ended.
    bool destroy();
    // The guest's own power-off: the driver closes (if `orderly`), the domain shuts down.
    bool power_off(bool orderly = true);

    // A command and its answer; empty if there was none in time.
    Bytes transmit(ByteView command) { return fakes::transmit(front_.ring(), command); }

    xen::FrontDevice& front() { return front_; }
    GuestHands& hands() { return hands_; }
    Child& vtpmd() { return *vtpmd_; }
    pid_t engine_pid() const;  // -1: none, or several; its vtpmd may have died
    xen::DomainId domain() const { return domain_; }
    std::string state();  // the back end's

  private:
    bool removed(bool force);

    SimHost& host_;
    xen::DomainId domain_;
    Uuid uuid_;
    GuestHands hands_;
    std::unique_ptr<xen::LibxenStore> store_;
    xen::FrontDevice front_;
    std::unique_ptr<SimService> service_;
    std::unique_ptr<Child> vtpmd_;
    std::optional<std::uint32_t> file_;
};

}  // namespace vtpm::fakes
