// CommandServer: what happens to one guest command between the ring and the TPM: checks that need
// no TPM, execution, and the durable commit of what it changed, before the answer may be seen.
#pragma once

#include "cancel_watcher.h"
#include "state_client.h"
#include "vtpm/engine/engine.h"
#include "vtpm/tpm/command_policy.h"
#include "vtpm/xen/request_handler.h"

namespace vtpm::engine_program {

class CommandServer : public xen::RequestHandler {
  public:
    CommandServer(tpm::Version version, tpm::CommandPolicy policy, engine::Engine& engine,
                  StateClient& state, CancelWatcher& watcher)
        : version_(version),
          policy_(std::move(policy)),
          engine_(engine),
          state_(state),
          watcher_(watcher) {}

    std::size_t handle(ByteView request, std::uint8_t locality, MutableByteView response) override;
    std::size_t refuse(xen::RequestFault fault, MutableByteView response) override;

    std::uint64_t commands() const { return commands_; }

  private:
    std::size_t execute(ByteView request, std::uint32_t ordinal, std::uint8_t locality,
                        MutableByteView response);

    tpm::Version version_;
    tpm::CommandPolicy policy_;
    engine::Engine& engine_;
    StateClient& state_;
    CancelWatcher& watcher_;
    std::uint64_t commands_ = 0;
    bool commit_failing_ = false;
};

}  // namespace vtpm::engine_program
