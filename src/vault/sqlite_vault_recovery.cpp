// SqliteVault::replace_recovery_key() and recover(): the ways out that an operator has.
#include "new_cell.h"
#include "sqlite_vault_parts.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {

Result<Recovery> make_recovery(const Uuid& manager, const SecretBytes& root, const Uuid& group,
                               const SecretBytes& group_key) {
    EscrowedKeys keys;
    keys.manager = manager;
    keys.root = root.clone();
    keys.groups.emplace_back(group, group_key.clone());
    Recovery recovery;
    VTPM_TRY(recovery.pem, make_recovery_key());
    VTPM_TRY(const Bytes point, recovery_public(recovery.pem));
    VTPM_TRY(recovery.escrow, make_escrow(point, keys));
    VTPM_TRY(const EscrowedKeys opened, open_escrow(recovery.pem, recovery.escrow));
    if (opened.manager != manager || opened.groups.size() != 1 || opened.groups[0].first != group ||
        !equal_constant_time(opened.root.view(), root.view()) ||
        !equal_constant_time(opened.groups[0].second.view(), group_key.view()))
        return fail(Errc::unavailable, "the escrow does not give back what was put in");
    return recovery;
}

Result<SetupOutcome> SqliteVault::replace_recovery_key() {
    VTPM_CHECK(unlocked());
    VaultRecord record = disk_->record;
    SetupOutcome outcome;
    outcome.manager = record.manager;
    VTPM_CHECK(chip_.expect(record.chip));  // it may have been swapped since the vault was opened
    VTPM_TRY(const SecretBytes root, unseal_key(chip_, record.root));
    VTPM_TRY(Recovery recovery,
             make_recovery(record.manager, root, unlocked_->group.uuid, unlocked_->group_key));
    record.escrow = std::move(recovery.escrow);
    record.mac = mac_of(record, unlocked_->keys.meta);
    // A chip that cheats here would put an escrow of the wrong root key on the disk.
    if (!equal_constant_time(derive_table_keys(root).meta.view(), unlocked_->keys.meta.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip gave another root key than when the vault was opened");
    }
    VTPM_CHECK(
        unlocked_->instances->commit_surroundings(surroundings_of(record, unlocked_->group),
                                                  [&] { return write(*disk_->database, record); }));
    disk_->record = std::move(record);
    wrote(true);
    outcome.recovery_key_pem = std::move(recovery.pem);
    return outcome;
}

// What opens a locked vault again, whatever locked it: keys that have proved to be the vault's.
struct SqliteVault::Found {
    TableKeys keys;
    SecretBytes root;
    GroupRecord group;
    SecretBytes group_key;
};

// With the recovery key from the escrow; without one from the chip, if the vault has no other.
Result<SqliteVault::Found> SqliteVault::find_keys(const SecretBytes& recovery_key) {
    const VaultRecord& record = disk_->record;
    Found found;
    VTPM_TRY(found.group, read_group_record(*disk_->database, record.default_group));
    if (!recovery_key.empty()) {
        if (record.escrow.empty())
            return fail(Errc::invalid_argument, "this vault has no recovery key");
        VTPM_TRY(EscrowedKeys escrowed, open_escrow(recovery_key, record.escrow));
        found.root = std::move(escrowed.root);
        for (auto& [group, key] : escrowed.groups) {
            if (group == found.group.uuid)
                found.group_key = std::move(key);
        }
    } else if (record.escrow.empty()) {
        VTPM_CHECK(chip_.expect(record.chip));
        VTPM_TRY(found.root, unseal_key(chip_, record.root));
        VTPM_TRY(found.group_key, unseal_key(chip_, found.group.key));
    } else {
        return fail(Errc::invalid_argument,
                    "this vault has a recovery key, and that is what recovers it");
    }
    found.keys = derive_table_keys(found.root);
    if (!equal_constant_time(mac_of(record, found.keys.meta), record.mac) ||
        !equal_constant_time(mac_of(found.group, record.manager, found.keys.meta),
                             found.group.mac) ||
        !equal_constant_time(group_key_check(found.group_key), found.group.key_check)) {
        return fail(Errc::corrupt, "the keys are not those of vault.db, or its rows are damaged");
    }
    return found;
}

Result<void> SqliteVault::recover(const SecretBytes& recovery_key) {
    if (!unlocked_) {
        // What is there now: the files may have been replaced since they were opened.
        disk_.reset();
        VTPM_CHECK(open_disk());
    }
    const auto opened = unlock();
    if (opened)
        return fail(Errc::invalid_argument, "the vault is open: there is nothing to recover");
    // A chip that is busy or away is no reason to do without its word.
    if (!disk_ || opened.error().next == NextAction::retry_later)
        return opened;
    Database& database = *disk_->database;
    VTPM_CHECK(database.check());
    VTPM_TRY(Found found, find_keys(recovery_key));
    VaultRecord record = disk_->record;
    // All that is there has to be whole, and of one state; just which one is the operator's word.
    VTPM_TRY(InstanceTable instances, InstanceTable::read(database, found.keys, record.manager,
                                                          surroundings_of(record, found.group)));
    VTPM_TRY(SecretBytes cell_auth, unwrap_key(found.keys.cell, record.cell_auth));

    // The chip as it is now: trust on first use, as at setup.
    VTPM_TRY(record.chip, chip_.identify());
    VTPM_CHECK(chip_.expect(record.chip));
    VTPM_TRY(record.root, seal_key(chip_, found.root));
    VTPM_TRY(found.group.key, seal_key(chip_, found.group_key));
    std::optional<NewCell> new_cell;
    const chip::CellTag tag = cell_tag(record.manager);
    auto value = chip_.read_cell({static_cast<chip::CellIndex>(record.cell), tag}, cell_auth);
    if (!value && value.error().code != Errc::wrong_cell)
        return tl::make_unexpected(std::move(value).error());
    if (!value) {
        VTPM_TRY(cell_auth, random_secret(chip::Chip::cell_auth_size));
        VTPM_TRY(record.cell_auth, wrap_key(found.keys.cell, cell_auth));
        VTPM_TRY(NewCell made, NewCell::define(chip_, cell_auth, tag));
        new_cell.emplace(std::move(made));
        record.cell = new_cell->index();
    }
    const auto before = value ? value->value_or(chip::CellValue{}) : chip::CellValue{};
    record.mac = mac_of(record, found.keys.meta);
    found.group.mac = mac_of(found.group, record.manager, found.keys.meta);

    const Hash surroundings = surroundings_of(record, found.group);
    VTPM_TRY(Anchor base, latest_anchor(database, record.manager, found.keys.anchor));
    ++base.recoveries;
    VTPM_TRY(const Anchor next, next_anchor(base, before, instances.state_with(surroundings),
                                            unix_seconds(), record.manager, found.keys.anchor));
    const auto write_all = [&]() -> Result<void> {
        VTPM_CHECK(write(database, record));
        VTPM_CHECK(replace_key(database, found.group));
        return write(database, next);
    };
    VTPM_CHECK(instances.commit_surroundings(surroundings, write_all));
    disk_->record = record;
    if (new_cell)
        new_cell->keep();
    // Another cell of this manager would go on vouching for the state that it names.
    const chip::Cell cell{static_cast<chip::CellIndex>(record.cell), tag};
    VTPM_CHECK(chip_.remove_other_cells(cell));
    VTPM_CHECK(chip_.extend_cell(cell, cell_auth, name_of(next, record.manager)));
    return unlock();
}

}  // namespace vtpm::vault
