// Front: vtpm-swtpm's loop: control and data channel, the engine, the manager and signals. One
// thread. One control peer and one data peer at a time; others wait in their socket's queue.
#pragma once

#include <optional>

#include "control_channel.h"
#include "control_server.h"

namespace vtpm::swtpm {

struct Sockets {
    Fd control_listener;
    Fd data_listener;
};

class Front {
  public:
    using Clock = std::chrono::steady_clock;

    Front(SocketTpm& tpm, ControlServer& server, Sockets sockets, bool stays)
        : tpm_(tpm), server_(server), sockets_(std::move(sockets)), stays_(stays) {}

    // Returns when it has been told to end. Termination signals must be blocked in all threads.
    Result<void> run();

  private:
    Result<void> wait();
    int milliseconds_to_wait(Clock::time_point now) const;
    void on_control(Clock::time_point now);
    void control_ended();
    Result<void> after_shutdown();
    Result<void> watch_machine();

    SocketTpm& tpm_;
    ControlServer& server_;
    Sockets sockets_;
    bool stays_;  // after SHUTDOWN, for the next machine
    Fd signals_;
    std::optional<ControlChannel> control_;
    bool is_machine_ = false;    // who is at the control channel
    bool machine_gone_ = false;  // without a SHUTDOWN; its data channel may still be there
    bool ended_ = false;
};

}  // namespace vtpm::swtpm
