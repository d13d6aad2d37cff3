// StateClient: the engine's end of its channel to vtpmmgrd: loads the state once, commits changes.
// One thread.
#pragma once

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
    explicit StateClient(Fd socket) : channel_(std::move(socket)) {}

    Result<LoadedState> load();

    // Makes these changes, and any that an earlier commit could not, durable. After an error they
    // stay with us for the next call.
    Result<void> commit(std::vector<engine::StateBlob> changes);
    bool has_pending() const { return !pending_.empty(); }

  private:
    void remember(std::vector<engine::StateBlob> changes);
    Result<void> send_pending();

    wire::Channel channel_;
    std::uint64_t sequence_ = 0;
    std::vector<engine::StateBlob> pending_;
};

}  // namespace vtpm::engine_program
