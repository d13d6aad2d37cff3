// A TPM's volatile state on its way from one engine to the next. vtpmd, which carries it, may carry
// it for long: it goes with the lasting state that it belongs to, and with no later one.
#pragma once

#include <cstdint>

#include "volatile_head.h"

namespace vtpm::engine_program {

// `sequence`: of the lasting state in the vault, at least 1.
SecretBytes handed_over_state(std::uint64_t sequence, const SecretBytes& volatile_state);
// Errc::out_of_order if it is of another sequence, Errc::corrupt if it is of no known form.
Result<VolatileState> take_handed_over_state(const SecretBytes& state, std::uint64_t sequence);

}  // namespace vtpm::engine_program
