// Vault: the durable, encrypted memory of all guests' TPMs, and the list of them.
//
// main() owns the implementation. One thread at a time. A call that changes something is durable
// when it returns a value and has changed nothing when it returns an error, with one exception:
// after Errc::io a store() may turn out to have happened if the host dies next; repeating it is
// safe.
//
// The rule above all others: what cannot be read is never taken for new. An empty TPM is told only
// by LoadedState::sequence == 0, which comes from a verified row that nothing was ever stored for.
//
// Contents and keys: reference/sealing.md sections 1.1 and 1.3. Freshness: section 2. Whatever
// older state is put in the place of the newest one is noticed, unless it is of the epoch that was
// open when the power failed (2.6): Freshness says how many writes that is about.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

enum class Phase {
    not_set_up,  // no vault here; only setup() and status() do something
    locked,      // there is one, its keys are not at hand; Status::reason says why, once tried
    open,
};

// What the chip's memory can prove about how new the vault is.
struct Freshness {
    std::uint64_t epoch = 0;
    std::int64_t committed = 0;     // unix seconds of the epoch's beginning
    std::uint64_t writes = 0;       // since: what a rollback in this moment could take unnoticed
    std::int64_t tokens = 0;        // commits that the chip's memory is spared for
    std::uint64_t chip_writes = 0;  // to the chip's memory, by this vault so far
    std::uint64_t recoveries = 0;   // older states that an operator has accepted
};

struct Status {
    Phase phase = Phase::not_set_up;
    std::optional<Error> reason;         // why it is not open, or what is wrong although it is
    Uuid manager;                        // this and what follows: not verified while locked
    std::string chip;                    // for people: manufacturer, firmware, SRK name
    std::string binding;                 // for people: what the keys are sealed to
    std::size_t instances = 0;           // all but the deleted
    std::size_t quarantined = 0;         // of them; found so far
    std::int64_t last_commit = 0;        // unix seconds of the last store(); 0 if never, or locked
    bool recovery = false;               // keys are escrowed to a recovery key
    std::uint32_t format = 0;            // of the database
    std::optional<Freshness> freshness;  // of an open vault
};

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
    Uuid group;
    InstanceState state = InstanceState::live;
    std::uint32_t generation = 0;  // of its key
    std::uint64_t sequence = 0;    // accepted stores so far
    std::int64_t created = 0;      // unix seconds
    std::int64_t committed = 0;    // unix seconds of the last store; 0 if never
    std::uint64_t bytes = 0;       // of plaintext in all its blobs
};

struct NewInstance {
    std::string name;
    std::uint8_t tpm = 0;
    std::optional<Uuid> uuid = std::nullopt;  // random if not given
    // Of a TPM that has lived elsewhere: there from the beginning, as if by a first store(). An
    // instance that is made with a state is never seen without one.
    std::optional<SecretBytes> permanent = std::nullopt;
};

enum class BlobKind : std::uint8_t {  // stored on disk: do not renumber
    permanent = 1,
    volatile_state = 2,
    saved = 3,
};

struct BlobChange {
    BlobKind kind;
    std::optional<SecretBytes> content;  // none: delete it
};

struct LoadedState {
    std::uint64_t sequence = 0;  // 0: never stored; the only case in which a TPM may be made
    std::vector<std::pair<BlobKind, SecretBytes>> blobs;  // by kind
};

struct SetupOutcome {
    Uuid manager;
    SecretBytes recovery_key_pem;  // PKCS#8; empty if not asked for. Nobody keeps another copy
};

class Vault {
  public:
    static constexpr std::size_t max_blob_size = 512U * 1024U;
    static constexpr std::size_t max_instances = 100'000;  // deleted ones count
    static constexpr std::size_t max_name_size = 64;

    virtual ~Vault() = default;

    virtual Status status() = 0;

    // Makes keys, seals them to the chip as it is now (trust on first use) and opens the vault.
    // Errc::already_exists if there is one, locked if it is not open; but with make_recovery_key on
    // an open vault that has no recovery key it makes that one.
    virtual Result<SetupOutcome> setup(bool make_recovery_key) = 0;

    // Makes a recovery key in place of the one there is, if any; that one opens copies of the vault
    // that are older than this and nothing else. Errc::locked, not_set_up.
    virtual Result<SetupOutcome> replace_recovery_key() = 0;

    // Takes what is on the disk for the newest state, and the chip as it is now for the vault's:
    // the operator's way out of Errc::rolled_back (a backup was restored), wrong_cell and
    // wrong_chip (a new mainboard). Needs the recovery key (PEM) if the vault has one; empty if
    // not, and then the chip has to be the old one. Counted in Freshness::recoveries. Errc::corrupt
    // if what is there is not whole.
    virtual Result<void> recover(const SecretBytes& recovery_key) = 0;

    // Phase open, or the reason why not; may be repeated. Errc::not_set_up, wrong_chip, corrupt,
    // unsupported, and whatever the chip or the disk says.
    virtual Result<void> unlock() = 0;

    // What follows gives Errc::not_set_up or Errc::locked while the vault is not open, not_found
    // for a uuid that is unknown or deleted, and corrupt for an instance in quarantine.

    // Errc::already_exists: the name is in use, or the uuid was ever used; invalid_argument: a name
    // is 1 to 64 of [A-Za-z0-9._-], does not begin with '-' or '.', and is not a uuid, and a state
    // is not empty; too_large: a state of more than max_blob_size.
    virtual Result<Instance> create(const NewInstance& wanted) = 0;

    // All but the deleted, by name.
    virtual Result<std::vector<Instance>> list() = 0;

    // By exact name, else by uuid, else by a prefix of a uuid with 4 hex digits or more. Gives
    // instances in quarantine too. Errc::invalid_argument if several begin like that.
    virtual Result<Instance> find(std::string_view selector) = 0;
    virtual Result<Instance> get(const Uuid& uuid) = 0;

    virtual Result<Instance> rename(const Uuid& uuid, std::string_view name) = 0;

    // Erases the instance's key and with it everything that was ever stored; its uuid stays taken.
    virtual Result<void> remove(const Uuid& uuid) = 0;

    virtual Result<LoadedState> load(const Uuid& uuid) = 0;

    // Applies all changes at once and gives the new sequence, expected_sequence + 1. Kinds that are
    // not named stay as they are. Errc::out_of_order unless expected_sequence is the current one;
    // an exact repeat of the last accepted store is answered as it was. The first store must bring
    // the permanent blob, which cannot be deleted. Contents are 1 to max_blob_size bytes.
    virtual Result<std::uint64_t> store(const Uuid& uuid, std::uint64_t expected_sequence,
                                        std::span<const BlobChange> changes) = 0;

    // Commits to the chip if that is due: to be called after the answer to a store() is on its way,
    // since a chip may take a second.
    virtual Result<void> commit_due() = 0;

    // Housekeeping that nobody waits for, and commit_due(); call it every few seconds.
    virtual Result<void> idle() = 0;

    // The last act: what was written since the last commit is committed to the chip, so that while
    // the host is off no older state passes for the newest.
    virtual Result<void> close() = 0;
};

}  // namespace vtpm::vault
