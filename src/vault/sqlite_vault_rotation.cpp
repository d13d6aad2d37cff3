// SqliteVault's new keys for groups and for the vault as a whole.
#include "sqlite_vault_parts.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

// A row that does not verify cannot be carried over, and must not be blessed.
Result<void> check_all_sound(const InstanceTable& instances) {
    for (const InstanceRow* const row : instances.all()) {
        if (row->quarantined())
            return fail(Errc::corrupt, "instance " + row->facts.name +
                                           " is in quarantine: restore the vault from a backup, or "
                                           "delete the instance, before keys are changed");
    }
    return {};
}

}  // namespace

Result<Group> SqliteVault::rotate_group(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    VTPM_CHECK(open->group_key(group->id));
    VTPM_CHECK(check_all_sound(*open->instances));
    const VaultRecord& record = disk_->record;
    VTPM_CHECK(chip_.expect(record.chip));
    VTPM_TRY(SecretBytes key, new_key(chip_, "xen-vtpm K_grp 1"));
    GroupRecord changed = *group;
    ++changed.generation;
    changed.key_check = group_key_check(key);
    VTPM_TRY(changed.key, seal_key(chip_, key, binding_of(record, changed)));
    if (!record.recovery_point.empty()) {
        VTPM_TRY(changed.escrow,
                 make_escrow(record.recovery_point, {record.manager, uuid, key.clone()}));
    }
    Change change{.action = "rotate-group",
                  .subject = subject_of(changed.name, uuid) + " to key generation " +
                             std::to_string(changed.generation)};
    for (const InstanceRow* const row : open->instances->all()) {
        if (row->group_id != changed.id)
            continue;
        InstanceRow wrapped = *row;
        VTPM_TRY(const SecretBytes instance_key, open->instance_key(*row));
        VTPM_TRY(wrapped.wrapped_key, wrap_key(key, instance_key));
        change.rows.push_back({std::move(wrapped)});
    }
    // They name the import key that went with the old one.
    change.tickets = disk_->tickets;
    std::erase_if(*change.tickets, [&](const OpenTicket& ticket) { return ticket.group == uuid; });
    const std::int64_t id = changed.id;
    change.groups.push_back(std::move(changed));
    VTPM_CHECK(make(std::move(change), true));
    open->group_keys.insert_or_assign(id, std::move(key));
    erase_log();
    return describe(*disk_->find_group(uuid));
}

Result<void> SqliteVault::rotate_root() {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_CHECK(check_all_sound(*open->instances));
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    VTPM_TRY(SecretBytes root, new_key(chip_, "xen-vtpm K_root 1"));
    TableKeys keys = derive_table_keys(root);
    Change change{.action = "rotate-root", .subject = "all MACs are new"};
    VaultRecord record = disk_->record;
    const GroupRecord& group = *disk_->find_group(record.default_group);
    VTPM_TRY(record.root, seal_key(chip_, root, binding_of(record, group)));
    VTPM_TRY(const SecretBytes cell_auth, unwrap_key(open->keys.cell, record.cell_auth));
    VTPM_TRY(record.cell_auth, wrap_key(keys.cell, cell_auth));
    VTPM_TRY(record.anchor_key, wrap_key(keys.cell, open->anchor_key));
    if (!record.recovery_point.empty()) {
        VTPM_TRY(record.escrow, make_escrow(record.recovery_point,
                                            {record.manager, record.manager, root.clone()}));
    }
    change.record = std::move(record);
    change.groups = disk_->groups;
    for (const InstanceRow* const row : open->instances->all_ever())
        change.rows.push_back({*row});

    // From here on everything is computed with the new keys; the table's sum, too.
    std::swap(open->keys, keys);
    open->instances->recount();
    if (auto done = make(std::move(change), true); !done) {
        if (!unlocked_)
            return done;
        std::swap(open->keys, keys);
        open->instances->recount();
        return done;
    }
    open->root = std::move(root);
    erase_log();
    return {};
}

}  // namespace vtpm::vault
