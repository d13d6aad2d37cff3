// Front: vtpm-swtpm's loop: control and data channel, the engine, the manager and signals. One
// thread. One control peer and one data peer at a time; others wait in their socket's queue.
#pragma once

#include <optional>

#include "control_channel.h"
#include "control_server.h"

namespace vtpm::swtpm {

struct Sockets {
    Fd control_listener;
    Fd control;  // a peer that is there from the beginning
    Fd data_listener;
    Fd data;
};

struct Manners {
    bool stays = false;              // after SHUTDOWN, for the next machine
    bool ends_with_control = false;  // when the control peer goes
    bool ends_with_data = false;     // when the data peer goes
};

class Front {
  public:
    using Clock = std::chrono::steady_clock;

    Front(SocketTpm& tpm, ControlServer& server, Sockets sockets, Manners manners)
        : tpm_(tpm), server_(server), sockets_(std::move(sockets)), manners_(manners) {}

    // Returns when it has been told to end. Termination signals must be blocked in all threads.
    Result<void> run();

  private:
    Result<void> wait();
    int milliseconds_to_wait(Clock::time_point now) const;
    void on_control(Clock::time_point now);
    void control_ended();
    Result<void> after_shutdown();
    void watch_data();

    SocketTpm& tpm_;
    ControlServer& server_;
    Sockets sockets_;
    Manners manners_;
    Fd signals_;
    std::optional<ControlChannel> control_;
    bool had_data_ = false;
    bool ended_ = false;
};

}  // namespace vtpm::swtpm
