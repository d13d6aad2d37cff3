// StateCase: one TPM's state as a hostile disk or another host's swtpm would have it, and its
// guest's first commands. Lived through twice: in the engine's jail, and under the sanitizers.
#pragma once

#include <cstdint>
#include <vector>

#include "vtpm/base/bytes.h"
#include "vtpm/tpm/version.h"

namespace vtpm::fuzz {

struct GuestCommand {
    std::uint8_t locality = 0;
    Bytes bytes;
};

struct StateCase {
    tpm::Version version = tpm::Version::v2_0;
    Bytes permanent;
    Bytes running;            // to go on with; empty: a cold start
    bool saved = false;       // `running` is there as a saved state, too
    bool hands_over = false;  // at its end, instead of an orderly shutdown
    std::vector<GuestCommand> commands;
};

// Between the fuzzer and the worker in the jail, which trust each other.
Bytes to_bytes(const StateCase& one);
StateCase from_bytes(ByteView bytes);

// What must hold: it is refused, or its answers are whole.
void live(const StateCase& one);

}  // namespace vtpm::fuzz
