// Front: vtpm-swtpm's loop: control and data channel, the engine, the manager and signals. One
// thread. One control peer and one data peer at a time; others wait in their socket's queue.
#pragma once

#include <optional>

#include "control_channel.h"
#include "control_server.h"

namespace vtpm::swtpm {

struct Sockets {
    Fd control_listener;
    Fd control_peer;  // the first, if it need not be accepted
    Fd data_listener;
    Fd data_peer;
};

// What this process does not outlive, beside a signal.
struct Ends {
    bool with_shutdown = true;  // else it waits for the next machine
    bool with_control = false;  // the end of a control channel
    bool with_data = false;     // and of a data channel
};

class Front {
  public:
    using Clock = std::chrono::steady_clock;

    Front(SocketTpm& tpm, ControlServer& server, Sockets sockets, Ends ends)
        : tpm_(tpm), server_(server), sockets_(std::move(sockets)), ends_(ends) {}

    // Takes the peers that are there.
    Result<void> begin();
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
    Ends ends_;
    Fd signals_;
    std::optional<ControlChannel> control_;
    bool had_data_ = false;
    bool is_machine_ = false;    // who is at the control channel
    bool machine_gone_ = false;  // without a SHUTDOWN; its data channel may still be there
    bool ended_ = false;
};

}  // namespace vtpm::swtpm
