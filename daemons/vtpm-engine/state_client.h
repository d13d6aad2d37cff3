// StateClient: the engine's end of its channel to vtpmmgrd: loads the state once, commits changes.
//
// A channel that breaks leaves a commit of which nobody knows whether it is on the disk. On the
// next channel exactly this commit is repeated first: the vault knows it again if it has it. What
// has changed since goes out after it. The same of one that was refused and may be taken later: the
// vault may have it, and wait for the chip. So it does when the answer to a commit is late: the
// next call waits for that answer, and does not ask again. One thread.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "vtpm/engine/engine.h"
#include "vtpm/tpm/command_policy.h"
#include "vtpm/tpm/factory.h"
#include "vtpm/wire/channel.h"

namespace vtpm::engine_program {

struct LoadedState {
    std::uint64_t sequence = 0;  // 0: never stored
    std::vector<engine::StateBlob> blobs;
    SecretBytes seed;
    tpm::CommandPolicy policy;
    tpm::PcrBanks banks;  // of a TPM that is to be made
};

class StateClient {
  public:
    using Patience = std::chrono::milliseconds;
    // A commit takes well under a millisecond; a minute means that the manager hangs. Longer than
    // any pause of the disk that is not a fault.
    static constexpr Patience longest_patience{60'000};

    // Asked for another channel when the one there is breaks: none, or none soon enough.
    using Replacement = std::function<std::optional<Fd>()>;

    explicit StateClient(Fd socket) : channel_(std::move(socket)) {}
    void on_loss(Replacement replacement) { replacement_ = std::move(replacement); }

    // Repeated on the channels that come in the place of one that has closed: it changes nothing.
    Result<LoadedState> load();

    // Makes these changes, and any that an earlier commit could not, durable. After an error they
    // stay with us for the next call. Errc::timeout: nobody knows yet; on the way they are.
    Result<void> commit(std::vector<engine::StateBlob> changes,
                        Patience patience = longest_patience);
    // A change that goes with the next commit.
    void owe(engine::StateBlob change);
    bool has_pending() const { return !pending_.empty() || !unanswered_.empty(); }

    // Goes on with this channel, and commits what is owed.
    Result<void> attach(Fd socket, Patience patience);
    // Of the state that the vault has last acknowledged.
    std::uint64_t sequence() const { return sequence_; }
    // The manager has gone, and no other channel has come.
    bool lost() const { return channel_.broken(); }

  private:
    Result<LoadedState> load_here();
    bool replace_channel();  // a broken one
    void go_on_with(Fd socket);
    void remember(std::vector<engine::StateBlob> changes);
    using Deadline = std::chrono::steady_clock::time_point;
    Result<void> send_owed(Deadline end);
    Result<void> send_unanswered(Deadline end);
    Result<void> ask();
    Result<wire::Frame> answer(Deadline end);

    wire::Channel channel_;
    std::uint64_t sequence_ = 0;
    std::vector<engine::StateBlob> unanswered_;  // sent after sequence_; its answer is not here
    std::vector<engine::StateBlob> pending_;     // what became different since
    bool asked_ = false;                         // unanswered_ went out on this channel
    Replacement replacement_;
};

}  // namespace vtpm::engine_program
