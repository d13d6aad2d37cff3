// SqliteVault's recovery key, and recover(): the ways out that an operator has.
#include "new_index.h"
#include "sqlite_vault_parts.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

tl::unexpected<Error> lost_with_the_chip() {
    return fail(Errc::wrong_cell, "it was in a chip of another generation");
}

Result<void> check_escrow(const SecretBytes& recovery_key, ByteView escrow, const Uuid& owner,
                          const SecretBytes& key) {
    VTPM_TRY(const EscrowedKey opened, open_escrow(recovery_key, escrow));
    if (opened.owner != owner || !equal_constant_time(opened.key.view(), key.view()))
        return fail(Errc::corrupt, "an escrow does not give back the key that was put in");
    return {};
}

}  // namespace

// Puts every key into a new escrow. What an older one gives to whoever has its recovery key and an
// older copy of the disk must not be the keys of now, so those are other ones then.
Result<void> SqliteVault::escrow_to(const Bytes& recovery_point) {
    const bool first = disk_->record.recovery_point.empty();
    const std::string subject = "SHA-256 " + to_hex(sha256(recovery_point)).substr(0, 16);
    return renew({.action = "recovery-key",
                  .subject = subject + (first ? "" : "; the vault's and all groups' keys are new"),
                  .root = !first,
                  .all_groups = !first,
                  .recovery_point = recovery_point});
}

Result<Uuid> SqliteVault::replace_recovery_key(std::string_view recovery_public_pem) {
    VTPM_CHECK(unlocked());
    VTPM_TRY(const Bytes point, recovery_public(recovery_public_pem));
    const bool was_there = disk_->record.recovery_point == point;
    const auto done = escrow_to(point);
    // Once it is the vault's, nobody must throw it away, whatever else went wrong.
    if (!done && (was_there || disk_->record.recovery_point != point))
        return tl::make_unexpected(done.error());
    return disk_->record.manager;
}

Result<void> SqliteVault::check_recovery_key(const SecretBytes& recovery_key) {
    VTPM_TRY(Unlocked* const open, unlocked());
    const VaultRecord& record = disk_->record;
    if (record.recovery_point.empty())
        return fail(Errc::invalid_argument, "this vault has no recovery key");
    VTPM_CHECK(check_escrow(recovery_key, record.escrow, record.manager, open->root));
    for (const auto& group : disk_->groups) {
        const auto key = open->group_keys.find(group.id);
        if (key != open->group_keys.end())
            VTPM_CHECK(check_escrow(recovery_key, group.escrow, group.uuid, key->second));
    }
    return {};
}

// What a recovery has found and makes anew.
struct SqliteVault::Recovery {
    SecretBytes root;
    TableKeys keys;
    SecretBytes anchor_key;
    SecretBytes cell_auth;
    std::map<std::int64_t, SecretBytes> group_keys;
    VaultRecord record;
    std::vector<GroupRecord> groups;
    std::vector<NewIndex> made = {};  // in the chip; given back if the recovery fails
};

// Keys that have proved to be the vault's.
Result<SqliteVault::Recovery> SqliteVault::find_keys(const SecretBytes& recovery_key) {
    Recovery found;
    found.record = disk_->record;
    found.groups = disk_->groups;
    KeySource source;
    if (!recovery_key.empty()) {
        VTPM_TRY(source, keys_from_escrow(recovery_key));
    } else if (found.record.recovery_point.empty()) {
        VTPM_CHECK(chip_.expect(found.record.chip));
        source = keys_from_chip();
    } else {
        return fail(Errc::invalid_argument,
                    "this vault has a recovery key, and that is what recovers it");
    }
    VTPM_TRY(found.root, source.root());
    found.keys = derive_table_keys(found.root);
    bool sound = equal_constant_time(mac_of(found.record, found.keys.meta), found.record.mac);
    for (const auto& group : found.groups) {
        sound = sound && equal_constant_time(mac_of(group, found.record.manager, found.keys.meta),
                                             group.mac);
        if (group.deleted)
            continue;
        VTPM_TRY(SecretBytes key, source.group(group));
        sound = sound && equal_constant_time(group_key_check(key, found.root), group.key_check);
        found.group_keys.emplace(group.id, std::move(key));
    }
    if (!sound)
        return fail(Errc::corrupt, "the keys are not those of vault.db, or its rows are damaged");
    VTPM_TRY(found.cell_auth, unwrap_key(found.keys.cell, found.record.cell_auth));
    VTPM_TRY(found.anchor_key, unwrap_key(found.keys.cell, found.record.anchor_key));
    return found;
}

// Seals all keys to the chip as it is now, with a counter and a latch of its own.
Result<void> SqliteVault::seal_again(Recovery& found) {
    VaultRecord& record = found.record;
    if (chip::is_tpm12(record.chip))
        return seal_again_on_tpm12(found);
    const auto latch = record.boot_latch();
    const bool from_tpm12 = record.counter == 0;  // which has none, and no approvers
    for (auto& group : found.groups) {
        if (from_tpm12)
            group.pcrs.clear();  // they bind to nothing from here on, and must not seem to
    }
    if (const auto there = from_tpm12 ? Result<std::uint64_t>(lost_with_the_chip())
                                      : chip_.read_counter(record.revocations());
        !there) {
        if (there.error().code != Errc::wrong_cell)
            return tl::make_unexpected(there.error());
        VTPM_TRY(const auto counter, chip_.define_counter(counter_tag(record.manager)));
        found.made.emplace_back(chip_, counter.index);
        record.counter = counter.index;
    }
    if (const auto there = latch ? chip_.latch_closed(*latch) : Result<bool>(false); !there) {
        if (there.error().code != Errc::wrong_cell)
            return tl::make_unexpected(there.error());
        VTPM_TRY(const auto made, chip_.define_latch(latch_tag(record.manager)));
        found.made.emplace_back(chip_, made.index);
        record.latch = made.index;
        record.latch_value = static_cast<std::int64_t>(made.value);
    }
    for (auto& group : found.groups) {
        if (group.deleted)
            continue;
        const chip::Binding binding = binding_of(record, group);
        VTPM_TRY(group.key, seal_key(chip_, found.group_keys.at(group.id), binding));
        if (group.uuid == record.default_group) {
            VTPM_TRY(record.root, seal_key(chip_, found.root, binding));
        }
    }
    return {};
}

// For this boot; who recovers answers for it.
Result<void> SqliteVault::seal_again_on_tpm12(Recovery& found) {
    VaultRecord& record = found.record;
    for (auto& group : found.groups) {
        if (group.deleted)
            continue;
        VTPM_TRY(const auto boot, boot_of(chip_, group));
        VTPM_TRY(group.key, seal_for_this_boot(chip_, found.group_keys.at(group.id), boot));
        if (group.uuid == record.default_group) {
            VTPM_TRY(record.root, seal_for_this_boot(chip_, found.root, boot));
        }
    }
    return {};
}

Result<void> SqliteVault::recover(const SecretBytes& recovery_key) {
    if (!unlocked_) {
        // What is there now: the files may have been replaced since they were opened.
        disk_.reset();
        VTPM_CHECK(open_disk());
    }
    auto opened = unlock();
    if (opened)
        return fail(Errc::invalid_argument, "the vault is open: there is nothing to recover");
    if (!disk_)
        return opened;
    const bool no_keys =
        opened.error().code == Errc::latched || opened.error().code == Errc::not_approved;
    const auto latch = disk_->record.boot_latch();
    const auto closed = latch && no_keys ? chip_.latch_closed(*latch) : Result<bool>(false);
    const bool latch_lost = !closed && closed.error().code == Errc::wrong_cell;
    if (no_keys && !latch_lost && !recovery_key.empty()) {
        // Whether it is the newest state shows only with keys. If it is, there is nothing to
        // accept.
        VTPM_TRY(const KeySource keys, keys_from_escrow(recovery_key));
        opened = open_with(keys);
        if (opened)
            return make({.action = "unlock", .subject = "with the recovery key"}, true);
    }
    // A chip that is busy or away, or does not know this boot, is no reason to do without its word.
    const Errc why = opened.error().code;
    if (why != Errc::rolled_back && why != Errc::wrong_cell && why != Errc::wrong_chip &&
        why != Errc::corrupt && !latch_lost) {
        return opened;
    }
    Database& database = *disk_->database;
    VTPM_CHECK(database.check());
    VTPM_TRY(Recovery found, find_keys(recovery_key));
    VaultRecord& record = found.record;
    // All that is there has to be whole, and of one state; just which one is the operator's word.
    VTPM_TRY(InstanceTable instances,
             InstanceTable::read(database, found.keys, record.manager,
                                 surroundings_of(record, found.groups, disk_->tickets)));

    // The chip as it is now: trust on first use, as at setup.
    VTPM_TRY(const auto generation, chip_.generation());
    if (generation == chip::Generation::tpm_1_2 && !on_tpm12()) {
        return fail(Errc::unsupported,
                    "the chip is a TPM 1.2 now, which cannot do what this vault was set up for; "
                    "recover it on a host with a TPM 2.0");
    }
    VTPM_TRY(record.chip, chip_.identify());
    VTPM_CHECK(chip_.expect(record.chip));
    VTPM_CHECK(seal_again(found));
    std::optional<NewIndex> new_cell;
    const chip::CellTag tag = cell_tag(record.manager);
    auto value =
        chip::is_tpm12(record.chip) == on_tpm12()
            ? chip_.read_cell({static_cast<chip::CellIndex>(record.cell), tag}, found.cell_auth)
            : Result<std::optional<chip::CellValue>>(lost_with_the_chip());
    if (!value && value.error().code != Errc::wrong_cell)
        return tl::make_unexpected(std::move(value).error());
    if (!value) {
        VTPM_TRY(found.cell_auth, random_secret(chip::Chip::cell_auth_size));
        VTPM_TRY(record.cell_auth, wrap_key(found.keys.cell, found.cell_auth));
        VTPM_TRY(record.cell, chip_.define_cell(found.cell_auth, tag));
        new_cell.emplace(chip_, static_cast<chip::CellIndex>(record.cell));
    }
    const auto before = value ? value->value_or(chip::CellValue{}) : chip::CellValue{};
    VTPM_TRY(const Anchor next, write_recovered(found, instances, before));
    if (new_cell)
        new_cell->keep();
    for (auto& index : found.made)
        index.keep();
    // Another cell of this manager would go on vouching for the state that it names.
    const chip::Cell cell{static_cast<chip::CellIndex>(record.cell), tag};
    VTPM_CHECK(chip_.remove_other_cells(cell));
    VTPM_CHECK(chip_.extend_cell(cell, found.cell_auth, name_of(next, record.manager)));
    return open_with({[&] { return Result<SecretBytes>(found.root.clone()); },
                      [&](const GroupRecord& group) {
                          return Result<SecretBytes>(found.group_keys.at(group.id).clone());
                      }});
}

// The state as it was, with the new record and groups, a line of the journal, and the anchor that
// the cell is about to name.
Result<Anchor> SqliteVault::write_recovered(Recovery& found, InstanceTable& instances,
                                            const chip::CellValue& cell) {
    Database& database = *disk_->database;
    VaultRecord& record = found.record;
    record.mac = mac_of(record, found.keys.meta);
    for (auto& group : found.groups)
        group.mac = mac_of(group, record.manager, found.keys.meta);
    Journal journal(database, found.anchor_key, record.manager);
    Event event;
    event.at = unix_seconds();
    event.actor = actor_.empty() ? "vtpmmgrd" : actor_;
    event.action = "recover";
    event.subject = "what is on the disk counts as the newest state";
    VTPM_TRY(const auto line, journal.next(event, instances.beside().journal));
    // No ticket outlives this: one that is open in an older state may have been used since.
    const Beside beside{surroundings_of(record, found.groups, {}), line.mac};
    VTPM_TRY(Anchor base, latest_anchor(database, record.manager, found.anchor_key));
    ++base.recoveries;
    VTPM_TRY(const Anchor next, next_anchor(base, cell, instances.state_with(beside), event.at,
                                            record.manager, found.anchor_key));
    const auto write_all = [&]() -> Result<void> {
        VTPM_CHECK(journal.write(line));
        VTPM_CHECK(write(database, record));
        for (const auto& group : found.groups)
            VTPM_CHECK(write(database, group));
        VTPM_CHECK(write_tickets(database, {}));
        return write(database, next);
    };
    VTPM_CHECK(instances.commit_all({}, beside, write_all));
    disk_->record = record;
    disk_->groups = found.groups;
    disk_->tickets.clear();
    return next;
}

}  // namespace vtpm::vault
