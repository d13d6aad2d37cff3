// SqliteVault::unlock() and its like: the keys, from wherever they come, and what they open.
#include <algorithm>

#include "key_bundle.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

// The state on the disk has verified, so we wrote it; but was it the last that we wrote? It is if
// it follows the anchor that the chip names, or is just what that anchor is about.
Result<void> check_newest(const Epochs& epochs, const InstanceTable& instances) {
    const Position& position = instances.position();
    if (position.anchor == epochs.name() || position.pending == epochs.name() ||
        instances.state() == epochs.current().state) {
        return {};
    }
    return fail(Errc::rolled_back,
                "the chip remembers another state of the vault than the one on the disk, parts of "
                "which were put back; if you have done it, from a backup: vtpmctl recover");
}

tl::unexpected<Error> with_ways_out(Error error, const VaultRecord& record) {
    if (error.code == Errc::wrong_chip) {
        error.context += record.recovery_point.empty()
                             ? ". Nothing was changed. Put back the chip of the set-up, as it was: "
                               "this vault has no recovery key, so that nothing else opens it"
                             : ". Nothing is lost. Put back the chip of the set-up, or seal the "
                               "keys to this one: vtpmctl recover --recovery-key FILE --yes";
    }
    if (error.code == Errc::latched) {
        error.context +=
            ". Reboot the host, or give the recovery key: vtpmctl unlock --recovery-key FILE";
    }
    return tl::make_unexpected(std::move(error));
}

}  // namespace

Result<SecretBytes> SqliteVault::checked_group_key(const GroupRecord& group, const KeySource& keys,
                                                   const SecretBytes& root) const {
    auto key = keys.group(group);
    if (!key)
        return with_ways_out(std::move(key).error(), disk_->record);
    if (!equal_constant_time(group_key_check(*key, root), group.key_check)) {
        return fail(Errc::corrupt, NextAction::ask_operator,
                    "the key of group " + group.name +
                        " and the vault's root key do not belong together: other sealed keys were "
                        "put into vault.db, or the chip gave another one; restore a backup, then "
                        "vtpmctl recover");
    }
    return key;
}

SqliteVault::KeySource SqliteVault::keys_from_chip() {
    const auto unseal = [this](const chip::SealedObject& sealed,
                               const GroupRecord& group) -> Result<SecretBytes> {
        VTPM_TRY(const auto approvals, read_approvals(*disk_->database, group.uuid));
        return unseal_key(chip_, sealed, binding_of(disk_->record, group), approvals);
    };
    return {[this, unseal] {
                return unseal(disk_->record.root, *disk_->find_group(disk_->record.default_group));
            },
            [unseal](const GroupRecord& group) { return unseal(group.key, group); }};
}

// With the recovery key from the escrows.
Result<SqliteVault::KeySource> SqliteVault::keys_from_escrow(const SecretBytes& recovery_key) {
    if (disk_->record.recovery_point.empty())
        return fail(Errc::invalid_argument, "this vault has no recovery key");
    VTPM_TRY(const Bytes point, recovery_public(recovery_key));
    if (point != disk_->record.recovery_point)
        return fail(Errc::invalid_argument, "this is not the recovery key of this vault");
    const auto open = [this, &recovery_key](ByteView escrow,
                                            const Uuid& owner) -> Result<SecretBytes> {
        VTPM_TRY(EscrowedKey opened, open_escrow(recovery_key, escrow));
        if (opened.manager != disk_->record.manager || opened.owner != owner)
            return fail(Errc::corrupt, "an escrow is that of another key");
        return std::move(opened.key);
    };
    return KeySource{[this, open] { return open(disk_->record.escrow, disk_->record.manager); },
                     [open](const GroupRecord& group) { return open(group.escrow, group.uuid); }};
}

Result<void> SqliteVault::unlock() {
    return open_with(keys_from_chip());
}

Result<void> SqliteVault::unlock_with_keys(const SecretBytes& keys) {
    VTPM_TRY(const KeyBundle bundle, KeyBundle::parse(keys.view()));
    VTPM_CHECK(disk());
    if (bundle.manager != disk_->record.manager)
        return fail(Errc::invalid_argument, "these are the keys of another vault");
    const VaultRecord& record = disk_->record;
    const auto [first_root, last_root] = bundle.keys.equal_range(bundle.manager);
    const auto root_in_force = std::find_if(first_root, last_root, [&](const auto& other) {
        return equal_constant_time(mac_of(record, derive_table_keys(other.second).meta),
                                   record.mac);
    });
    const SecretBytes& root = root_in_force == last_root ? bundle.root : root_in_force->second;
    // A group whose key became another one since: perhaps the chip gives it.
    const auto of_group = [&](const GroupRecord& group) -> Result<SecretBytes> {
        const auto [first, last] = bundle.keys.equal_range(group.uuid);
        if (first == last)
            return fail(Errc::locked, "it was closed before vtpmmgrd restarted");
        const auto in_force = std::find_if(first, last, [&](const auto& key) {
            return equal_constant_time(group_key_check(key.second, root), group.key_check);
        });
        return in_force == last ? keys_from_chip().group(group) : in_force->second.clone();
    };
    return open_with({[&] { return Result<SecretBytes>(root.clone()); }, of_group});
}

Result<void> SqliteVault::unlock_with_recovery_key(const SecretBytes& recovery_key) {
    VTPM_CHECK(disk());
    VTPM_TRY(const KeySource keys, keys_from_escrow(recovery_key));
    if (unlocked_ && unlocked_->closed.empty())
        return fail(Errc::invalid_argument, "the vault is open already, and all its groups are");
    VTPM_CHECK(open_with(keys));
    for (const auto& group : disk_->groups) {
        if (!unlocked_->closed.contains(group.id))
            continue;
        VTPM_TRY(SecretBytes key, checked_group_key(group, keys, unlocked_->root));
        unlocked_->closed.erase(group.id);
        unlocked_->group_keys.insert_or_assign(group.id, std::move(key));
    }
    return make({.action = "unlock", .subject = "with the recovery key"}, true);
}

Result<SecretBytes> SqliteVault::keys_at_hand() {
    VTPM_TRY(Unlocked* const open, unlocked());
    KeyBundle bundle;
    bundle.manager = disk_->record.manager;
    bundle.root = open->root.clone();
    for (const auto& group : disk_->groups) {
        if (const auto key = open->group_keys.find(group.id); key != open->group_keys.end())
            bundle.keys.emplace(group.uuid, key->second.clone());
    }
    return bundle.text();
}

Result<void> SqliteVault::close_latch() {
    VTPM_CHECK(unlocked());
    const auto latch = disk_->record.boot_latch();
    if (!latch || latch_closed_)
        return {};
    VTPM_CHECK(chip_.close_latch(*latch));
    latch_closed_ = true;
    return {};
}

Result<void> SqliteVault::open_with(const KeySource& keys) {
    if (unlocked_)
        return {};
    if (renewing_)  // who renews would not see that it is another vault
        return fail(Errc::locked, NextAction::retry_later, "the keys are being renewed");
    auto done = try_open(keys);
    // That somebody meddles with the state must not be hidden by keys that cannot be had just now.
    const bool alarm =
        reason_ && (reason_->code == Errc::rolled_back || reason_->code == Errc::wrong_cell);
    const bool no_keys =
        !done && (done.error().code == Errc::latched || done.error().code == Errc::not_approved);
    if (done) {
        reason_.reset();
    } else if (!alarm || !no_keys) {
        reason_ = done.error();
    }
    return done;
}

// A latch that was removed or replaced is shut for good.
Result<void> SqliteVault::look_at_latch() {
    latch_lost_.reset();
    latch_closed_ = false;
    const auto latch = disk_->record.boot_latch();
    if (!latch)
        return {};
    const auto closed = chip_.latch_closed(*latch);
    if (!closed && closed.error().code != Errc::wrong_cell)
        return tl::make_unexpected(closed.error());
    latch_closed_ = closed.value_or(true);
    if (!closed) {
        latch_lost_ = Error{Errc::wrong_cell, NextAction::ask_operator,
                            closed.error().context +
                                ": after the next start the chip gives no keys. Now, vtpmctl "
                                "rotate --root seals them anew; later it takes vtpmctl recover "
                                "and the recovery key"};
    }
    return {};
}

Result<void> SqliteVault::try_open(const KeySource& keys) {
    VTPM_CHECK(open_disk());
    if (!disk_) {
        const auto other = check_no_other_vault();
        return tl::make_unexpected(!other && other.error().code == Errc::not_set_up ? other.error()
                                                                                    : no_vault());
    }
    late_commit_.reset();
    leftovers_.reset();
    log_is_ours_ = false;
    Database& database = *disk_->database;
    const VaultRecord& record = disk_->record;
    VTPM_CHECK(database.check());
    if (auto right = chip_.expect(record.chip); !right)
        return with_ways_out(std::move(right).error(), record);

    auto unlocked = std::make_unique<Unlocked>();
    auto root = keys.root();
    if (!root)
        return with_ways_out(std::move(root).error(), record);
    unlocked->root = std::move(*root);
    unlocked->keys = derive_table_keys(unlocked->root);
    const SecretBytes& meta = unlocked->keys.meta;
    if (!equal_constant_time(mac_of(record, meta), record.mac)) {
        return fail(Errc::corrupt,
                    "the row of the vault itself does not verify with the key from the chip");
    }
    VTPM_CHECK(open_groups(*unlocked, keys));
    VTPM_TRY(SecretBytes cell_auth, unwrap_key(unlocked->keys.cell, record.cell_auth));
    VTPM_TRY(unlocked->anchor_key, unwrap_key(unlocked->keys.cell, record.anchor_key));
    unlocked->epochs.emplace(chip_, database, record.manager,
                             CommitCell{static_cast<chip::CellIndex>(record.cell),
                                        std::move(cell_auth), cell_tag(record.manager)},
                             unlocked->anchor_key.clone());
    VTPM_CHECK(unlocked->epochs->resume());
    VTPM_TRY(unlocked->instances,
             InstanceTable::read(database, unlocked->keys, record.manager,
                                 surroundings_of(record, disk_->groups, disk_->tickets)));
    VTPM_CHECK(check_newest(*unlocked->epochs, *unlocked->instances));
    VTPM_TRY(unlocked->records, RecordTable::records(database));
    VTPM_TRY(unlocked->snapshots, RecordTable::snapshots(database));
    unlocked->journal.emplace(database, unlocked->anchor_key, record.manager);
    VTPM_CHECK(VaultDirectory(directory_).mark(record.manager));
    VTPM_CHECK(look_at_latch());
    unlocked_ = std::move(unlocked);
    if (auto folded = fold(); !folded) {
        unlocked_.reset();
        return folded;
    }
    (void)clear_chip();      // what is in its way is in the status
    (void)tell_approvals();  // or the next time; no reason to keep the guests waiting
    return {};
}

// A group whose key cannot be had stays closed; the default group's has to be there.
Result<void> SqliteVault::open_groups(Unlocked& into, const KeySource& keys) const {
    for (const auto& group : disk_->groups) {
        if (!equal_constant_time(mac_of(group, disk_->record.manager, into.keys.meta), group.mac))
            return fail(Errc::corrupt, "the row of group " + group.name + " does not verify");
        if (group.deleted)
            continue;
        auto key = checked_group_key(group, keys, into.root);
        if (key) {
            into.group_keys.emplace(group.id, std::move(*key));
        } else if (disk_->is_default(group) || key.error().next == NextAction::retry_later ||
                   key.error().next == NextAction::retry) {
            return tl::make_unexpected(std::move(key).error());
        } else {
            into.closed.emplace(group.id, std::move(key).error());
        }
    }
    return {};
}

}  // namespace vtpm::vault
