// EngineProcess: one running vtpm-engine, its orders and its reports. Destroying it kills the
// process and reaps it. One thread; the orders that need an answer wait for it, with a bound.
//
// An engine outlives a vtpmd that dies while somebody keeps its descriptors. The next vtpmd adopts
// it by them: it is not its child, so how it ends is not known then.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "guest_device.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"
#include "vtpm/xen/back_device_owner.h"

namespace vtpm::doorman {

class EngineProcess {
  public:
    // Starts `program` for this ring in a PID namespace of its own. `state` is its channel to
    // vtpmmgrd, `log` what it has for standard error.
    static Result<EngineProcess> start(const std::string& program, GuestDevice guest,
                                       const xen::RingAddress& ring, Fd state, Fd log);
    // By what descriptors() gave to another vtpmd.
    static EngineProcess adopt(Fd channel, Fd process);
    // The same, of an engine with a front of its own: its arguments, all but the program's name.
    static Result<EngineProcess> start(const std::string& program,
                                       const std::vector<std::string>& arguments, Fd state, Fd log);
    EngineProcess(EngineProcess&& other) noexcept;
    EngineProcess& operator=(EngineProcess&& other) = delete;
    ~EngineProcess();

    Result<void> power_on(const wire::proto::PowerOn& order, const SecretBytes& volatile_state);
    // One is expected at once: fd() is readable. Nothing: it was meant for a vtpmd before us.
    Result<std::optional<wire::proto::Report>> next_report();
    // Reads what it has already reported, without waiting: before it is given up. Not for as long
    // as it goes on reporting.
    void drain();
    // The Ready that came while an order was under way, if one did.
    std::optional<wire::proto::Ready> take_ready() { return std::exchange(ready_, std::nullopt); }

    // Of an adopted one: where it stands. Nothing: it is in the middle of a command, or of its
    // start, and says it later. An error: it is gone. Whatever it reports before that was meant for
    // a vtpmd before us, and is neither an answer to us nor out of turn.
    Result<std::optional<wire::proto::Standing>> describe();
    // That came later, if it did.
    std::optional<wire::proto::Standing> take_standing() {
        return std::exchange(standing_, std::nullopt);
    }
    // What it had handed over to a vtpmd that did not live to take it, if that was found.
    SecretBytes take_handed_over() { return std::exchange(handed_over_, SecretBytes()); }
    // It runs on when this object is gone; whoever has its descriptors() may adopt it.
    void leave();

    Result<void> quiesce();
    Result<SecretBytes> hand_over();
    // A new channel to vtpmmgrd. Not waited for: an Attached report comes when it has it.
    Result<void> attach(Fd state);
    // For each such report: false if it had none to make, and is out of turn.
    bool take_attached();
    // A failure leaves a TPM that waits for go_on() before it serves its guest.
    Result<void> suspend(std::uint64_t life);
    Result<void> go_on() const;
    Result<void> power_off();

    // Kills it if it still runs, and says how it ended: "exited with 1", "killed by signal 9".
    std::string end();
    // After end(): by a signal that was not ours. Not one that ended by itself, or was adopted.
    bool was_killed() const { return was_killed_; }

    int fd() const { return channel_.fd(); }
    std::array<int, 2> descriptors() const { return {channel_.fd(), process_.get()}; }
    wire::Channel& channel() { return channel_; }

  private:
    EngineProcess(pid_t pid, Fd process, Fd channel)
        : pid_(pid), process_(std::move(process)), channel_(std::move(channel)) {}
    Result<void> send(const wire::proto::Order& order, int descriptor = -1) const;
    bool in_step() const;
    void discard();
    Result<void> hear_standing(const wire::proto::Order& question);
    bool for_another(const wire::proto::Report& report, wire::Frame& frame);
    Result<wire::Frame> order(const wire::proto::Order& order,
                              wire::proto::Report::BodyCase expected);

    pid_t pid_;   // 0: not our child
    Fd process_;  // a pidfd; invalid: it has ended
    bool was_killed_ = false;
    wire::Channel channel_;
    std::optional<wire::proto::Ready> ready_;
    int attaching_ = 0;           // channels that it has not said to have
    std::uint64_t question_ = 0;  // of ours, as long as it is not answered
    int late_words_ = 0;          // about where it stands, after that
    std::optional<wire::proto::Standing> standing_;
    SecretBytes handed_over_;
};

}  // namespace vtpm::doorman
