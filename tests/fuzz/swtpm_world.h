// SwtpmWorld: what SocketTpm has around it, without processes and sockets to wait for: SocketEngine
// and ManagerClient are compiled against it in the place of their own sources (swtpm_world.cpp). An
// engine does what it is told, or dies, or refuses, as the input says. One thread, one world.
#pragma once

#include <optional>
#include <set>

#include "input.h"
#include "vtpm/base/fd.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"

namespace vtpm::fuzz {

struct SwtpmWorld {
    // The newest.
    struct Engine {
        Fd orders;  // its end: where a channel to the manager comes
        bool had_power = false;
        bool runs = false;
        bool dead = false;
    };

    Input& input;
    tpm::Version version;
    Uuid uuid;
    Engine engine = {};
    Fd manager = {};          // its end of the hold
    unsigned opens = 0;       // each more than ten is a second of waiting
    bool has_waited = false;  // for what may change: once a run
    // What the vault has put by, and under what labels it may be asked for.
    std::optional<std::uint64_t> put_by = {};
    std::set<std::uint64_t> labels = {};
    bool power_is_new = false;  // an INIT: a TPM may begin with fresh PCRs

    bool is_held() const;
};

// For as long as one lives.
SwtpmWorld*& swtpm_world();

}  // namespace vtpm::fuzz
