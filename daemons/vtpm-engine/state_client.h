// StateClient: the engine's end of its channel to vtpmmgrd: loads the state once, commits changes.
//
// A channel that breaks leaves a commit of which nobody knows whether it is on the disk. On the
// next channel exactly this commit is repeated first: the vault knows it again if it has it. What
// has changed since goes out after it. One thread.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "vtpm/engine/engine.h"
#include "vtpm/tpm/command_policy.h"
#include "vtpm/wire/channel.h"

namespace vtpm::engine_program {

struct LoadedState {
    std::uint64_t sequence = 0;  // 0: never stored
    std::vector<engine::StateBlob> blobs;
    SecretBytes seed;
    tpm::CommandPolicy policy;
};

class StateClient {
  public:
    // Asked for another channel when the one there is breaks: none, or none soon enough.
    using Replacement = std::function<std::optional<Fd>()>;

    explicit StateClient(Fd socket) : channel_(std::move(socket)) {}
    void on_loss(Replacement replacement) { replacement_ = std::move(replacement); }

    Result<LoadedState> load();

    // Makes these changes, and any that an earlier commit could not, durable. After an error they
    // stay with us for the next call.
    Result<void> commit(std::vector<engine::StateBlob> changes);
    bool has_pending() const { return !pending_.empty() || !unanswered_.empty(); }

    // Goes on with this channel, and commits what is owed.
    Result<void> attach(Fd socket);

  private:
    void remember(std::vector<engine::StateBlob> changes);
    Result<void> send_owed();
    Result<void> send_unanswered();
    Result<wire::Frame> exchange_unanswered();

    wire::Channel channel_;
    std::uint64_t sequence_ = 0;
    std::vector<engine::StateBlob> unanswered_;  // sent after sequence_; its answer is not here
    std::vector<engine::StateBlob> pending_;     // what became different since
    Replacement replacement_;
};

}  // namespace vtpm::engine_program
