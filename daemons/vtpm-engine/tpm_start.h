// How an engine's TPM comes to power from what the vault has, and what of it must be on the disk
// before its guest hears of it.
#pragma once

#include <functional>

#include "state_client.h"
#include "vtpm/engine/engine.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::engine_program {

struct StartedTpm {
    wire::proto::Ready ready;
    tpm::CommandPolicy policy;
};

// `handed_over`: to go on with; with order.resume() it comes from the vault instead. `on_loaded` is
// called once the state is there, and before libtpms gets it, if nothing is to be stored after
// that; its error is this one's.
Result<StartedTpm> start_tpm(engine::Engine& tpm, StateClient& state, tpm::Version version,
                             const wire::proto::PowerOn& order, const SecretBytes& handed_over,
                             const std::function<Result<void>()>& on_loaded = {});

}  // namespace vtpm::engine_program
