// FrontDevice: the front end's half of the xenbus handshake of one vtpm device.
//
// For guests whose kernel has no driver for it (vtpm-front), tests and benchmarks. Takes every
// event of its Store, so it needs one to itself; poll store.fd() and look(). One thread, but for
// FrontRing's cancel().
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "vtpm/xen/event_ports.h"
#include "vtpm/xen/front_ring.h"
#include "vtpm/xen/grant_share.h"
#include "vtpm/xen/store.h"
#include "vtpm/xen/xenbus_state.h"

namespace vtpm::xen {

class FrontDevice {
  public:
    // `path` is the device's directory: "device/vtpm/0" inside the guest. All must outlive it.
    FrontDevice(Store& store, GrantShare& grants, EventPorts& ports, std::string path);
    FrontDevice(const FrontDevice&) = delete;
    FrontDevice& operator=(const FrontDevice&) = delete;

    // Shares a page, opens a port, writes ring-ref, event-channel and feature-protocol-v2 together
    // and state 3; waits for the back end's 4 and answers 4. From any state; an earlier connection
    // is dropped without a word, as after a resume.
    Result<void> connect(std::chrono::milliseconds timeout);
    // The first half alone: everything up to state 3. The ring works from here on, as Linux uses
    // it.
    Result<void> offer();

    // How the connection stands, after an event of the store or when in doubt. Takes the events.
    enum class Standing {
        connected,
        resumed,      // the domain was; nothing is connected: give_up_ring(), connect()
        begin_again,  // the back end does: connect()
        closing,      // the back end goes, or is gone: drop()
        gone,         // the toolstack has removed the device
    };
    Result<Standing> look();

    // What the back end says of its TPM before anybody connects, "1.2" or "2.0"; empty if it says
    // nothing. Waits for the back end's first state.
    Result<std::string> tpm_version(std::chrono::milliseconds timeout);

    // The connection is no more, as after a resume: the page goes, and the event channel, if there
    // is one, is the caller's; connect() makes others.
    std::unique_ptr<EventChannel> give_up_ring();

    FrontRing& ring() { return *ring_; }  // after offer() or connect()
    bool offered() const { return ring_ != nullptr; }

    // As Linux does at shutdown: 5, wait for the back end's 5 (or more), 6; the page and the port
    // go.
    Result<void> close(std::chrono::milliseconds timeout);
    // As Linux does when its module is unloaded: the page and the port go, then 6, no wait.
    Result<void> drop();

  private:
    Result<void> find_backend();
    Result<std::optional<XenbusState>> backend_state();
    Result<void> take_events();
    Result<void> set_state(XenbusState state);
    Result<void> await_backend(std::chrono::milliseconds timeout,
                               const std::function<bool(XenbusState)>& reached);
    Result<void> await_goodbye(std::chrono::milliseconds timeout);
    void forget_ring();

    static constexpr std::chrono::milliseconds goodbye_patience{5000};

    Store& store_;
    GrantShare& grants_;
    EventPorts& ports_;
    std::string path_;
    std::string backend_path_;
    DomainId backend_domid_ = 0;
    bool watching_ = false;  // our own directory
    std::optional<GrantedPage> granted_;
    std::optional<OpenPort> port_;
    std::unique_ptr<FrontRing> ring_;
};

}  // namespace vtpm::xen
