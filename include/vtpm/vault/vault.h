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

#include "vtpm/base/fd.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"
#include "vtpm/chip/chip.h"
#include "vtpm/vault/instance.h"
#include "vtpm/vault/transfer.h"

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

// The boot latch: once closed, the chip unseals the vault's keys no more before it is reset.
enum class LatchState {
    none,    // the keys are sealed without it
    open,    // as far as we know: whoever controls this host can unseal them
    closed,  // by us, in this boot
};

struct Status {
    Phase phase = Phase::not_set_up;
    std::optional<Error> reason;      // why it is not open, or what is wrong although it is
    Uuid manager;                     // this and what follows: not verified while locked
    std::string chip;                 // for people: manufacturer, firmware, SRK name
    std::string binding;              // for people: what the keys are sealed to
    std::vector<std::string> limits;  // for people: what a TPM 1.2 cannot do for this vault
    LatchState latch = LatchState::none;
    std::size_t groups = 0;              // all but the deleted
    std::size_t closed_groups = 0;       // of them
    std::size_t instances = 0;           // all but the deleted
    std::size_t quarantined = 0;         // of them; found so far
    std::uint64_t snapshot_bytes = 0;    // in the snapshots of them all
    std::int64_t last_commit = 0;        // unix seconds of the last store(); 0 if never, or locked
    bool recovery = false;               // keys are escrowed to a recovery key
    std::uint32_t format = 0;            // of the database
    std::optional<Freshness> freshness;  // of an open vault
};

struct Exported {
    Instance instance;
    Bytes package;
};

struct Imported {
    Instance instance;
    Bytes receipt;
};

// Tenants' instances: under a key of their own, with an approver of their own.
struct Group {
    Uuid uuid;
    std::string name;
    bool is_default = false;         // its approver decides about the vault as a whole, too
    bool open = false;               // its key is at hand; else its instances cannot be read
    std::optional<Error> reason;     // why it is closed
    Bytes approver;                  // Chip::approver_fingerprint(); empty: none
    std::vector<std::uint8_t> pcrs;  // that its approvals are about
    std::uint32_t generation = 0;    // of its key
    std::size_t instances = 0;       // all but the deleted
};

// Who approves the boots on which a group's key may be had, and over which PCRs. Neither: any boot.
struct ApproverWish {
    std::string key;  // public key in PEM (P-256 or RSA)
    std::vector<std::uint8_t> pcrs;
};

// What an approver is to sign: `openssl dgst -sha256 -sign KEY` over `words`.
struct BootStatement {
    Uuid manager;
    Group group;
    chip::PcrValues pcrs;
    std::uint64_t limit = 0;      // void once the chip's counter is above it
    chip::CellIndex counter = 0;  // its NV index
    Bytes words;                  // 64 bytes
};

// A signed statement. Not secret, and not believed before the chip has checked it.
struct StoredApproval {
    Uuid group;
    std::int64_t made = 0;  // unix seconds of its import
    chip::Approval approval;
    bool revoked = false;
    bool this_boot = false;  // its PCR values are those of now
};

// A line of the journal. Who did what, to what, and when.
struct Event {
    std::uint64_t number = 0;  // from 1; those that are not kept any more leave gaps
    std::int64_t at = 0;       // unix seconds
    std::string actor;
    std::string action;   // "create", "open", ...
    std::string subject;  // a name and a uuid, or what the action was about
    bool sound = true;    // false: this line was changed, or lines before it were taken out
};

struct SetupWishes {
    // Whose private half is the recovery key (P-256, PEM), and never comes here; empty: none.
    std::string recovery_public;
    ApproverWish approver;  // of the default group and the vault as a whole
    bool latch = true;
    // The chip is a TPM 1.2, and that is to be put up with: no approver's key, no latch; sealed to
    // this boot, over the PCRs of `approver`.
    bool legacy_tpm12 = false;
    // Although the chip has the commit cell of another vault, whose directory may only be away.
    bool beside_another = false;
};

class Vault {
  public:
    static constexpr std::size_t max_blob_size = 512U * 1024U;
    static constexpr std::size_t max_instances = 100'000;  // deleted ones count
    static constexpr std::size_t max_name_size = 64;
    static constexpr std::size_t max_policy_size = 2048;
    static constexpr std::size_t max_snapshots = 16;  // of one instance
    // Of plaintext in the snapshots of all instances. A backup has the database in memory twice.
    static constexpr std::uint64_t max_snapshot_bytes = std::uint64_t{128} << 20U;

    virtual ~Vault() = default;

    virtual Status status() = 0;

    // For whom the calls from here on are made; it goes into the journal. "" is the daemon itself.
    virtual void act_for(std::string_view who) = 0;

    // Makes keys, seals them to the chip as it is now (trust on first use) and opens the vault;
    // gives its manager's uuid. Errc::already_exists if there is one, locked if it is not open; but
    // with a recovery key an open vault that has none takes that one. Errc::unsupported for a chip
    // of the generation that was not wished for.
    virtual Result<Uuid> setup(const SetupWishes& wishes) = 0;

    // Puts a recovery key, by its public half (PEM), in place of the one there is, if any. That one
    // still opens copies of the vault that are older than this; so that it opens nothing else, the
    // vault's and all groups' keys become others, but not those of instances (rotate_instance()).
    // Errc::locked (a closed group too), not_set_up; corrupt while an instance is in quarantine.
    virtual Result<Uuid> replace_recovery_key(std::string_view recovery_public) = 0;
    // Whether this recovery key (PEM) opens the escrow of every key that is at hand.
    virtual Result<void> check_recovery_key(const SecretBytes& recovery_key) = 0;

    // Takes what is on the disk for the newest state, and the chip as it is now for the vault's:
    // the operator's way out of Errc::rolled_back (a backup was restored), wrong_cell and
    // wrong_chip (a new mainboard). Needs the recovery key (PEM) if the vault has one; empty if
    // not, and then the chip has to be the old one. Counted in Freshness::recoveries. Errc::corrupt
    // if what is there is not whole.
    virtual Result<void> recover(const SecretBytes& recovery_key) = 0;

    // Phase open, or the reason why not; may be repeated. Errc::not_set_up, wrong_chip, corrupt,
    // unsupported, not_approved (this boot), latched (the chip gave the keys once in this boot),
    // and whatever the chip or the disk says. Groups whose keys cannot be had stay closed.
    virtual Result<void> unlock() = 0;

    // The same with keys that keys_at_hand() gave to this process's forerunner, or with the
    // recovery key (PEM): no unsealing. The chip still has to be the right one, and the state the
    // newest.
    virtual Result<void> unlock_with_keys(const SecretBytes& keys) = 0;
    virtual Result<void> unlock_with_recovery_key(const SecretBytes& recovery_key) = 0;

    // The root key and those of the open groups, for unlock_with_keys(). Errc::locked.
    virtual Result<SecretBytes> keys_at_hand() = 0;

    // From here on the chip gives the keys to nobody before it is reset. Does nothing if the keys
    // are sealed without a latch.
    virtual Result<void> close_latch() = 0;

    // ---- who approves boots; these work on a locked vault, too ----

    // What `group`'s approver is to sign for the PCRs as they are now, but for those in `others`.
    // It is void after the next revocation, or with `outlives_revocation` after the one after that.
    // Errc::invalid_argument: the group has no approver, or the PCRs bind nothing (all of them are
    // 0 or all are 0xff...).
    virtual Result<BootStatement> statement(const Uuid& group, const chip::PcrValues& others,
                                            bool outlives_revocation) = 0;

    // Keeps a signed statement. Errc::not_approved if the signature is not the approver's,
    // invalid_argument if it binds nothing, too_large if there are too many.
    virtual Result<void> approve(const Uuid& group, const chip::Approval& approval) = 0;
    // Of a vault on a TPM 1.2, which has no approvers, on an open group's key: seals it for this
    // boot too, but for the PCRs in `others`. Errc::invalid_argument on a TPM 2.0, too_large.
    virtual Result<void> approve_unsigned(const Uuid& group, const chip::PcrValues& others) = 0;
    virtual Result<std::vector<StoredApproval>> approvals() = 0;

    // On a TPM 1.2: seals all keys for this boot and no other; older copies of the vault open on
    // the boots of then all the same. Errc::locked while a group is closed. Unless `forced`,
    // Errc::invalid_argument if another boot is approved. Else: makes all statements void that do
    // not outlive it. Unless `forced`, Errc::invalid_argument if after that nothing would open some
    // group with an approver on this boot.
    virtual Result<void> revoke(bool forced) = 0;

    virtual Result<std::vector<Group>> groups() = 0;
    // By exact name, else by uuid. "" is the default group.
    virtual Result<Group> find_group(std::string_view selector) = 0;

    // What follows gives Errc::not_set_up or Errc::locked while the vault is not open, not_found
    // for a uuid that is unknown or deleted, and corrupt for an instance in quarantine.

    // ---- groups ----

    // Errc::already_exists: the name is in use; invalid_argument: the name, as of an instance, or
    // the approver.
    virtual Result<Group> create_group(std::string_view name, const ApproverWish& approver) = 0;
    // Asks the chip for a closed group's key. Errc as unlock().
    virtual Result<Group> open_group(const Uuid& group) = 0;
    // Forgets its key: its instances cannot be read any more. The default group stays open.
    virtual Result<Group> close_group(const Uuid& group) = 0;
    // An empty one. The default group stays.
    virtual Result<void> remove_group(const Uuid& group) = 0;
    // Who approves its boots from now on; of the default group, those of the vault as well. As for
    // all changes of keys: with a latch everything is sealed anew, to a latch that is new and open,
    // and the chip opens no older copy of the vault any more. For that all groups have to be open,
    // else Errc::locked. Without a latch, older copies open as they always did.
    virtual Result<Group> set_approver(const Uuid& group, const ApproverWish& approver) = 0;

    // New keys: of an instance (all that is stored is encrypted anew), of a group (its instances'
    // keys are wrapped anew), of the vault (all MACs are made anew). What the old key opened is
    // overwritten on the disk before this returns. The latter two seal anew, as set_approver().
    virtual Result<Instance> rotate_instance(const Uuid& uuid) = 0;
    virtual Result<Group> rotate_group(const Uuid& group) = 0;
    virtual Result<void> rotate_root() = 0;

    // ---- to another manager's vault, and back from a backup: docs/decisions/0006 ----

    // For one instance that is to be imported into this open group, within ticket_seconds.
    // Errc::too_large if max_open_tickets are open.
    virtual Result<MadeTicket> make_ticket(const Uuid& group) = 0;
    // From here on the instance is used here no more, and the chip knows that before there is a
    // package. Repeated with the same ticket it gives the package again; Errc::already_exists with
    // another one. Errc::malformed: that is no ticket. Snapshots are not in the package:
    // Errc::invalid_argument if there are any, unless they are to be left behind, where they are
    // erased by confirm_export().
    virtual Result<Exported> export_instance(const Uuid& uuid, ByteView ticket,
                                             bool leave_snapshots) = 0;
    // The other manager has it: erases it here. Errc::corrupt: not the receipt of its package.
    virtual Result<Instance> confirm_export(const Uuid& uuid, ByteView receipt) = 0;
    // Used here again, on the word of an operator who knows that nobody has imported it.
    virtual Result<Instance> abort_export(const Uuid& uuid) = 0;
    // "": the name it had. `policy` is its Instance::policy here: what the package says is another
    // host's word. One that was deleted may come in: nobody but the operator knows which of
    // several was the true one. Errc::not_found: no such ticket is open; already_exists: the uuid
    // is in use here, or the name; invalid_argument: it is for another manager; corrupt, malformed,
    // too_large: not the package that was made.
    virtual Result<Imported> import_package(ByteView package, std::string_view name,
                                            ByteView policy) = 0;
    // Of a package that was imported: should the first one be lost.
    virtual Result<Imported> receipt_again(ByteView package) = 0;
    // A whole copy of the vault as it is now, in memory: no file has it, nor had. Errc::io if there
    // is no room.
    virtual Result<Fd> backup() = 0;

    // Lines of the journal after this number, no more than `limit`.
    virtual Result<std::vector<Event>> journal(std::uint64_t after, std::size_t limit) = 0;
    // Adds one, about what a guest's start does with an instance. Such lines have room of their
    // own, and push out no others.
    virtual Result<void> note(std::string_view action, const Uuid& instance) = 0;

    // ---- instances; Errc::locked too while an instance's group is closed ----

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
    // Whether its state can be loaded: Errc::locked with the reason while its group is closed.
    virtual Result<void> check_usable(const Uuid& uuid) = 0;

    virtual Result<Instance> rename(const Uuid& uuid, std::string_view name) = 0;
    // Whether each of its writes is known to the chip before it is answered; from the next one on,
    // and all that were before are known to it when this has returned. Whoever is refused with
    // NextAction::retry_later because the chip does not answer need not repeat it.
    virtual Result<Instance> set_sync(const Uuid& uuid, bool sync) = 0;

    // Errc::too_large above max_policy_size.
    virtual Result<Instance> set_policy(const Uuid& uuid, ByteView policy) = 0;

    // Erases the instance's key and with it everything that was ever stored; its uuid stays taken.
    virtual Result<void> remove(const Uuid& uuid) = 0;

    // ---- snapshots and clones: docs/decisions/0011. Nobody may be using the instance, but for
    // snapshots() and a clone of a snapshot. ----

    // Keeps the permanent state as it is now under a name. Errc::already_exists; invalid_argument:
    // the name, as of an instance, or nothing was ever stored; too_large: max_snapshots are kept,
    // or the vault would have more than max_snapshot_bytes of them.
    virtual Result<Instance> take_snapshot(const Uuid& uuid, std::string_view name) = 0;
    // By age.
    virtual Result<std::vector<Snapshot>> snapshots(const Uuid& uuid) = 0;
    // Erases it. Errc::not_found.
    virtual Result<Instance> remove_snapshot(const Uuid& uuid, std::string_view name) = 0;
    // The permanent state is that of the snapshot again, by a store like any other: the sequence
    // goes up. What else was stored (a suspended TPM) is gone. Counted in Instance::reverts.
    // Errc::not_found; corrupt: the snapshot does not verify, and nothing is changed.
    virtual Result<Instance> revert(const Uuid& uuid, std::string_view snapshot) = 0;
    // Another instance, with a key of its own, that begins with this one's permanent state or with
    // that of a snapshot: a TPM with the same seeds, in the same group. Errc as create() and
    // revert().
    virtual Result<Instance> clone(const Uuid& uuid, const CloneWish& wish) = 0;

    virtual Result<LoadedState> load(const Uuid& uuid) = 0;

    // Applies all changes at once and gives the new sequence, expected_sequence + 1. Kinds that are
    // not named stay as they are. Errc::out_of_order unless expected_sequence is the current one;
    // an exact repeat of the last accepted store is answered as it was. The first store must bring
    // the permanent blob, which cannot be deleted. Contents are 1 to max_blob_size bytes.
    //
    // A store of an instance with `sync` is committed to the chip before the answer. If the chip
    // does not take it, that is an error with retry_later, although the store is durable: an exact
    // repeat is acknowledged when the chip has taken it, and another store in its place replaces
    // it.
    Result<std::uint64_t> store(const Uuid& uuid, std::uint64_t expected_sequence,
                                std::span<const BlobChange> changes) {
        const StoreRequest request{uuid, expected_sequence, changes};
        return std::move(store_all({&request, 1}).front());
    }

    // Stores one after another, as if each had been alone, with one wait for the disk (and one for
    // the chip, if it is needed) for all of them. The answers are in the order of the requests; the
    // error of one is none of the others', unless it is that of the disk.
    virtual std::vector<Result<std::uint64_t>> store_all(
        std::span<const StoreRequest> requests) = 0;

    // Commits to the chip if that is due, and what else should not be in the way of a store(): to
    // be called after the answer to a store() is on its way, since a chip may take a second.
    virtual Result<void> commit_due() = 0;

    // Housekeeping that nobody waits for, and commit_due(); call it every few seconds.
    virtual Result<void> idle() = 0;

    // The last act: what was written since the last commit is committed to the chip, so that while
    // the host is off no older state passes for the newest.
    virtual Result<void> close() = 0;
};

}  // namespace vtpm::vault
