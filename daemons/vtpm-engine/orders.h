// Orders: what an engine is told by its doorman (vtpmd, or vtpm-swtpm in its place), and how it
// gets another channel to vtpmmgrd from there when its own is lost: by an Attach, which may come in
// the middle of a command. One thread.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "state_client.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::engine_program {

class Orders {
  public:
    using Patience = std::chrono::milliseconds;
    // Of an order that comes while a command waits: true if it is answered by this. Else it has to
    // wait for the command's end.
    using Aside = std::function<bool(const wire::proto::Order&)>;

    explicit Orders(wire::Channel& doorman) : doorman_(doorman) {}

    // One had to wait; next() has it.
    bool put_off() const { return put_off_.has_value(); }
    Result<wire::Frame> next();

    // For a command that waits. None: it did not come in time, or another order did, or one command
    // has waited in vain since the last attach() already.
    std::optional<Fd> await_channel(Patience patience, const Aside& aside);
    // What is owed is committed at once; a guest that has to know is told by its next command.
    Result<void> attach(Fd socket, StateClient& state, Patience patience);

    Result<void> report_failure(const Error& error);

  private:
    Result<void> report_attached();

    wire::Channel& doorman_;
    std::optional<wire::Frame> put_off_;
    bool waited_ = false;  // in vain
};

}  // namespace vtpm::engine_program
