// What a SqliteVault holds in its two stages; see sqlite_vault.h. Private to the vault room.
#pragma once

#include <functional>
#include <map>
#include <set>

#include "approvals.h"
#include "epochs.h"
#include "group_record.h"
#include "instance_table.h"
#include "journal.h"
#include "key_schedule.h"
#include "key_wrap.h"
#include "record_cipher.h"
#include "record_table.h"
#include "ticket_table.h"
#include "vault_record.h"
#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::vault {

inline constexpr std::size_t max_groups = 1000;  // deleted ones count

struct SqliteVault::Disk {
    std::unique_ptr<Database> database;
    VaultRecord record;               // verified once unlocked, as are
    std::vector<GroupRecord> groups;  // by id
    std::vector<OpenTicket> tickets;

    // nullptr if there is none. Deleted ones too.
    const GroupRecord* find_group(const Uuid& uuid) const;
    // Errc::not_found if there is none, or it is deleted.
    Result<const GroupRecord*> live_group(const Uuid& uuid) const;
    bool is_default(const GroupRecord& group) const { return group.uuid == record.default_group; }
    Uuid uuid_of(std::int64_t group) const;
};

// Writes the records of a store; for the transaction that writes its row.
using RecordWriter = std::function<Result<void>()>;

struct SqliteVault::Unlocked {
    SecretBytes root;
    TableKeys keys;
    SecretBytes anchor_key;
    std::optional<Epochs> epochs;
    std::map<std::int64_t, SecretBytes> group_keys;  // of the open groups, by id
    std::map<std::int64_t, Error> closed;            // why the others are not
    std::optional<InstanceTable> instances;
    std::optional<RecordTable> records;
    std::optional<RecordTable> snapshots;
    std::optional<Journal> journal;
    // Instances whose every write is to be known to the chip, and whose last one is not yet: it is
    // durable, and was not acknowledged.
    std::set<Uuid> unproven;

    // Of an instance that may be used. Errc::not_found, or Errc::corrupt for one in quarantine.
    Result<const InstanceRow*> usable(const Uuid& uuid) const;
    // Of one that lives here: Errc::in_use too if it was exported.
    Result<const InstanceRow*> served(const Uuid& uuid) const;
    // As on the disk, of one whose snapshots may be used: that its newest state does not verify is
    // no reason against that.
    Result<InstanceRow> with_snapshots(const Uuid& uuid) const;

    // Errc::locked while the group is closed.
    Result<const SecretBytes*> group_key(std::int64_t group) const;

    // K_inst. Errc::corrupt if it does not unwrap, locked while its group is closed.
    Result<SecretBytes> instance_key(const InstanceRow& row) const {
        VTPM_TRY(const SecretBytes* const under, group_key(row.group_id));
        return unwrap_key(*under, row.wrapped_key);
    }

    // Turns the row of a new instance, with K_inst `key`, into what it is after its first store.
    Result<RecordWriter> first_store(const Uuid& manager, const SecretBytes& key,
                                     std::span<const BlobChange> state, InstanceRow& row);
    // The same for one that has a state, and K_inst `key`.
    Result<RecordWriter> next_store(const Uuid& manager, const SecretBytes& key,
                                    std::span<const BlobChange> state, InstanceRow& row);
};

inline RecordLabel label_of(const Uuid& manager, const InstanceRow& row, BlobKind kind,
                            const StoredRecord& record) {
    return {manager,           row.facts.group, row.facts.uuid, kind,
            record.generation, record.sequence, record.anchor};
}

// One change of an open vault, by somebody who answers for it: all of it and its line in the
// journal are written at once. MACs are computed on the way.
struct SqliteVault::Change {
    std::string action;
    std::string subject;
    std::vector<InstanceTable::Change> rows = {};
    std::optional<VaultRecord> record = {};
    std::vector<GroupRecord> groups = {};
    std::optional<std::vector<OpenTicket>> tickets = {};  // all that are open then
    std::function<Result<void>()> also = {};
    // Of what was done earlier, and written down without a MAC until now.
    struct Earlier {
        std::int64_t at;
        std::string actor;
    };
    std::optional<Earlier> earlier = {};
    Journal::Kind kind = Journal::Kind::operators;
};

// New keys, or other conditions for them, and new seals for all that there are.
struct SqliteVault::Renewal {
    std::string action;
    std::string subject;
    bool root = false;                      // a new K_root
    bool all_groups = false;                // new keys for all groups
    std::optional<GroupRecord> group = {};  // as it shall be, but for its key and seal
    bool group_key = false;                 // a new key for this one
    std::optional<Bytes> recovery_point = {};

    bool renews_key_of(const GroupRecord& other) const {
        return all_groups || (group_key && group && group->id == other.id);
    }
};

// Where the keys come from: from the chip, from the forerunner of this process, from an escrow.
struct SqliteVault::KeySource {
    std::function<Result<SecretBytes>()> root;
    std::function<Result<SecretBytes>(const GroupRecord&)> group;
};

// From two sources, neither of which alone needs to be good.
Result<SecretBytes> new_key(chip::Chip& chip, std::string_view purpose);

// Checks who is to approve the boots of a group, and puts it into its record.
Result<void> take_approver(chip::Chip& chip, const ApproverWish& wish, GroupRecord& into);

// The first digits of its approver's fingerprint, for people.
std::string short_fingerprint(chip::Chip& chip, const GroupRecord& group);

// The PCRs of a wish, or the usual ones, in order. Errc::invalid_argument if they say nothing.
Result<Bytes> pcrs_of(chip::Chip& chip, const ApproverWish& wish);

// ---- a TPM 1.2 (sqlite_vault_tpm12.cpp, docs/decisions/0008) ----

// Whether the wishes are for the generation that the chip is of. Asks before anything is changed.
Result<void> check_generation(chip::Chip& chip, const SetupWishes& wishes);
// The PCRs that a group's boots are told by: those of the wish, or the usual ones. Puts them into
// its record; gives this boot.
Result<chip::PcrValues> choose_boot(chip::Chip& chip, const ApproverWish& wish, GroupRecord& into);
Result<chip::PcrValues> boot_of(chip::Chip& chip, const GroupRecord& group);
// Errc::not_approved if the chip does not give it back on the boot that runs.
Result<chip::SealedObject> seal_for_this_boot(chip::Chip& chip, const SecretBytes& key,
                                              const chip::PcrValues& boot);
// Errc::unsupported, in words for `what`.
tl::unexpected<Error> not_on_tpm12(std::string_view what);
std::vector<std::string> tpm12_limits();

// What belongs to the state of the vault beside the table of instances.
Hash surroundings_of(const VaultRecord& record, const std::vector<GroupRecord>& groups,
                     const std::vector<OpenTicket>& tickets);

// Why an exported instance cannot be used.
Error exported_away(const InstanceRow& row);

// Whether a new instance may be called so.
Result<void> check_name(const InstanceTable& instances, std::string_view name);

// Errc::corrupt: rows are damaged beyond telling, so that any uuid may have been used.
Result<void> check_no_doubt(const InstanceTable& instances);

// `name (uuid)`, for the journal.
std::string subject_of(std::string_view name, const Uuid& uuid);

std::int64_t unix_seconds();

}  // namespace vtpm::vault
