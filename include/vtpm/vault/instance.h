// The values of the vault about one TPM: what it is, what is stored of it, what is to be stored.
//
// Plain values. Sizes are in bytes, times in unix seconds.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vtpm/base/bytes.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

enum class InstanceState : std::uint8_t {  // stored on disk: do not renumber
    live = 1,
    exported = 2,
    deleted = 3,
    quarantined = 4,  // does not verify; only remove() is possible
};

struct Instance {
    Uuid uuid;
    std::string name;
    std::uint8_t tpm = 0;  // a tpm::Version; not interpreted here
    bool sync = false;     // each store is known to the chip before it is acknowledged
    Uuid group;
    InstanceState state = InstanceState::live;
    std::uint32_t generation = 0;      // of its key
    std::uint64_t sequence = 0;        // accepted stores so far
    std::int64_t created = 0;          // unix seconds
    std::int64_t committed = 0;        // unix seconds of the last store; 0 if never
    std::uint64_t bytes = 0;           // of plaintext in all its blobs
    Uuid peer;                         // the manager it was exported to, or imported from
    std::int64_t moved = 0;            // unix seconds of that; 0: never
    Bytes policy;                      // what its engine is told to refuse; not interpreted here
    std::uint64_t reverts = 0;         // to a snapshot, so far
    std::uint64_t clones = 0;          // made of it so far
    Uuid origin;                       // the one that it is a clone of; nil: it is none
    std::uint64_t snapshots = 0;       // that are kept
    std::uint64_t snapshot_bytes = 0;  // of plaintext in them; not in `bytes`
};

// The permanent state of a TPM as it was at one time, kept under a name.
struct Snapshot {
    std::string name;
    std::int64_t made = 0;       // unix seconds
    std::uint64_t sequence = 0;  // that the instance had then
    std::uint64_t bytes = 0;
};

enum class BlobKind : std::uint8_t {  // stored on disk: do not renumber
    permanent = 1,
    volatile_state = 2,
    saved = 3,
    snapshot = 4,  // a permanent state that is kept; no store() and no load() has it
};

struct BlobChange {
    BlobKind kind;
    std::optional<SecretBytes> content;  // none: delete it
};

struct NewInstance {
    std::string name;
    std::uint8_t tpm = 0;
    std::optional<Uuid> uuid = {};   // random if not given
    std::optional<Uuid> group = {};  // the default group if not given
    bool sync = false;               // see Instance
    // Of a TPM that has lived elsewhere: there from the beginning, as if by a first store(). An
    // instance that is made with a state is never seen without one.
    std::vector<BlobChange> state = {};
    Bytes policy = {};  // see Instance; at most Vault::max_policy_size
};

struct CloneWish {
    std::string name;
    std::optional<Uuid> uuid = {};  // random if not given
    std::string snapshot = {};      // of which; empty: of what it is now
};

struct StoreRequest {
    Uuid uuid;
    std::uint64_t expected_sequence = 0;
    std::span<const BlobChange> changes;
};

struct LoadedState {
    std::uint64_t sequence = 0;  // 0: never stored; the only case in which a TPM may be made
    std::vector<std::pair<BlobKind, SecretBytes>> blobs;  // by kind
};

}  // namespace vtpm::vault
