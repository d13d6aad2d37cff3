// Seat: what an engine has once it has given away everything else: the guest's page and bell, and
// two channels.
//
// Made before the guest's first byte is read, in this order: acquire, confine, start the second
// thread. allow_only_serving() is the last wall, the system call filter. Also what the containment
// drill (tests/integration/drill) sits on: it runs hostile code in the place of Service, on this
// very seat.
#pragma once

#include <cstdint>
#include <memory>

#include "cancel_watcher.h"
#include "confinement.h"
#include "vtpm/xen/back_ring.h"
#include "vtpm/xen/libxen_event_channel.h"
#include "vtpm/xen/mapped_page.h"

namespace vtpm::engine_program {

struct Arguments {
    std::uint32_t domain = 0;
    std::uint32_t ring_ref = 0;
    std::uint32_t event_channel = 0;
    std::uint32_t uid = 0;
};
// Ends the process if they are not right, or for --version.
Arguments arguments_of(int argc, char** argv);

class Seat {
  public:
    static constexpr int doorman_fd = engine_program::doorman_fd;
    static constexpr int manager_fd = engine_program::manager_fd;

    // Whole-process, before other threads start. Ends the process where a step fails.
    explicit Seat(const Arguments& arguments);

    void allow_only_serving();

    xen::LibxenEventChannel& events() { return *events_; }
    xen::BackRing& ring() { return *ring_; }
    CancelWatcher& watcher() { return *watcher_; }
    xen::SharedPage page() const { return page_.page(); }

  private:
    xen::MappedPage page_;
    std::unique_ptr<xen::LibxenEventChannel> events_;
    std::unique_ptr<xen::BackRing> ring_;
    std::unique_ptr<CancelWatcher> watcher_;
};

}  // namespace vtpm::engine_program
