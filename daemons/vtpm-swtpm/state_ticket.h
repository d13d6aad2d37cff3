// StateTicket: what a peer gets for a state blob. The state itself never leaves the manager: it is
// put by in the vault, under a random label, and the ticket says which. It is of use once, for this
// instance, and only while nothing else has happened to the TPM since: so a stream that is
// migrated, or a file of it, can neither be read nor played back
// (docs/decisions/0012-swtpm-protocol.md).
#pragma once

#include "vtpm/base/uuid.h"

namespace vtpm::swtpm {

enum class BlobType : std::uint32_t { permanent = 1, volatile_state = 2, saved = 3 };

struct StateTicket {
    BlobType type;
    Uuid instance;
    std::uint64_t label = 0;  // 0: nothing is put by; the TPM is as the vault has it

    Bytes to_bytes() const;
    // Errc::permission for what is no ticket, such as a state in the clear.
    static Result<StateTicket> parse(ByteView bytes);
};

}  // namespace vtpm::swtpm
