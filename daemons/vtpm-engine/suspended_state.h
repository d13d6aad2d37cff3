// A TPM's volatile state while its guest lies in a save file: as a record of the vault, under the
// label of the domain's life. The vault binds it to the instance and to the permanent state beside
// it; the label binds it to the save file.
#pragma once

#include <vector>

#include "volatile_head.h"
#include "vtpm/engine/engine.h"

namespace vtpm::engine_program {

engine::StateBlob suspended_state(std::uint64_t life, const SecretBytes& volatile_state);

bool has_suspended_state(const std::vector<engine::StateBlob>& blobs);
void drop_suspended_state(std::vector<engine::StateBlob>& blobs);
// Takes it out of `blobs`, if it is there. None, or of another life: Errc::not_found, out_of_order.
Result<VolatileState> take_suspended_state(std::vector<engine::StateBlob>& blobs,
                                           std::uint64_t life);

}  // namespace vtpm::engine_program
