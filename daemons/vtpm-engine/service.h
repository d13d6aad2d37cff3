// Service: the life of one engine, from vtpmd's PowerOn order to the end of its TPM.
//
// The loop waits for the guest's bell and for vtpmd's orders. One thread; see CancelWatcher for the
// other.
#pragma once

#include <memory>
#include <optional>

#include "cancel_watcher.h"
#include "command_server.h"
#include "empty_events.h"
#include "orders.h"
#include "state_client.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"
#include "vtpm/xen/back_ring.h"
#include "vtpm/xen/event_channel.h"

namespace vtpm::engine_program {

struct Ring {
    xen::EventChannel& events;
    xen::BackRing& ring;
    CancelWatcher& watcher;
};

class Service {
  public:
    Service(Ring ring, wire::Channel& doorman, StateClient& state);

    // Returns when the TPM has ended in order; an error is a reason for vtpmd to call it dead.
    Result<void> run();

  private:
    Result<void> power_on();
    Result<void> describe(const wire::proto::Describe& question);
    Result<wire::proto::Ready> start(tpm::Version version, const wire::proto::PowerOn& order,
                                     const SecretBytes& handed_over);
    void fail_tpm(tpm::Version version);
    Result<void> wait();
    bool may_serve() const { return serving_ && !held_; }
    Result<bool> serve_ring();  // was there a command?
    bool order_waits() const;
    Result<void> obey();
    std::optional<Fd> await_channel();
    Result<void> hand_over();
    Result<void> suspend(std::uint64_t life);
    Result<void> put_by(std::uint64_t life);
    Result<void> power_off();

    Ring ring_;
    wire::Channel& doorman_;
    Orders orders_;
    StateClient& state_;
    std::unique_ptr<engine::Engine> tpm_;
    bool ready_ = false;  // it is no FailedTpm
    tpm::Version version_ = tpm::Version::v1_2;
    std::unique_ptr<CommandServer> server_;
    bool serving_ = true;      // the ring is there
    bool held_ = false;        // a Suspend has failed, and vtpmd has not said GoOn
    bool look_again_ = false;  // the guest may have another command on the page
    EmptyEvents empty_events_;
    bool ended_ = false;
};

}  // namespace vtpm::engine_program
