// SqliteVault::renew(): new keys and new seals, in one change, after which the chip opens no older
// copy of the disk.
//
// What is sealed is bound to the boot latch, an index of the chip. So everything is sealed to a
// new latch, and once that is on the disk and the chip's cell vouches for it, the old one is
// removed: what was sealed to it opens never again. A power cut leaves the old latch and the old
// seals, or the new ones, and at most an index too many, which the next start gives back
// (clear_chip()). That the new latch is open till the keys are in the next manager's hands is why
// no crash in between locks this boot.
//
// With a new root key there is a new commit cell, too, of another authorization value: who had the
// old root key has the old one's, and could make the chip name an older state. The new cell is
// extended before it is the vault's, by an anchor that is written in the same transaction as the
// record that names it; so that whichever record is on the disk, its cell vouches for it. The old
// cell is removed with the old latch. K_anchor stays: without the cell nobody gets the chip to name
// an anchor that is made with it, and no journal line can be replaced without the line after it.
#include <algorithm>
#include <utility>

#include "key_bundle.h"
#include "new_index.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

constexpr std::chrono::seconds shortest_pause{5};
constexpr std::chrono::seconds longest_pause{3600};

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

Result<void> check_all_open(const std::vector<GroupRecord>& groups,
                            const std::map<std::int64_t, SecretBytes>& keys) {
    for (const auto& group : groups) {
        if (!group.deleted && !keys.contains(group.id))
            return fail(Errc::locked, "group " + group.name +
                                          " is closed, and all keys have to be sealed anew for "
                                          "this: open it (vtpmctl group open). If it does not open "
                                          "on this boot, start the host on one that its approver "
                                          "has approved, or open it with the recovery key (vtpmctl "
                                          "unlock --recovery-key FILE)");
    }
    return {};
}

// The key of `id` after the change.
const SecretBytes& key_of(std::int64_t id, const std::map<std::int64_t, SecretBytes>& fresh,
                          const std::map<std::int64_t, SecretBytes>& before) {
    const auto made = fresh.find(id);
    return made == fresh.end() ? before.at(id) : made->second;
}

}  // namespace

struct SqliteVault::Fresh {
    SecretBytes root;  // empty: it stays
    TableKeys table;
    std::map<std::int64_t, SecretBytes> groups;
    std::optional<NewIndex> latch;
    std::optional<NewIndex> cell;  // with a new root key, but on a TPM 1.2
    SecretBytes cell_auth;
    std::optional<Epochs> epochs;  // in that cell
};

// The keys, and the latch that they are to be sealed to.
Result<SqliteVault::Fresh> SqliteVault::make_fresh(const Renewal& wish, VaultRecord& record) {
    Fresh fresh;
    if (wish.root) {
        VTPM_TRY(fresh.root, new_key(chip_, "xen-vtpm K_root 1"));
        fresh.table = derive_table_keys(fresh.root);
    }
    for (const auto& group : disk_->groups) {
        if (group.deleted || !wish.renews_key_of(group))
            continue;
        VTPM_CHECK(let_others_in());
        VTPM_TRY(SecretBytes key, new_key(chip_, "xen-vtpm K_grp 1"));
        fresh.groups.emplace(group.id, std::move(key));
    }
    if (record.boot_latch()) {
        VTPM_TRY(const auto latch, chip_.define_latch(latch_tag(record.manager)));
        fresh.latch.emplace(chip_, latch.index);
        record.latch = latch.index;
        record.latch_value = static_cast<std::int64_t>(latch.value);
    }
    if (wish.root && !on_tpm12()) {
        VTPM_TRY(fresh.cell_auth, random_secret(chip::Chip::cell_auth_size));
        VTPM_TRY(record.cell, chip_.define_cell(fresh.cell_auth, cell_tag(record.manager)));
        fresh.cell.emplace(chip_, static_cast<chip::CellIndex>(record.cell));
    }
    return fresh;
}

// The groups' records as they will be: those that are sealed anew, and with a new root key all.
Result<std::vector<GroupRecord>> SqliteVault::renewed_groups(const Renewal& wish,
                                                             const VaultRecord& record,
                                                             const Fresh& fresh) const {
    const auto& keys = unlocked_->group_keys;
    std::vector<GroupRecord> out;
    for (const GroupRecord& old : disk_->groups) {
        const bool is_wished = wish.group && wish.group->id == old.id;
        GroupRecord group = is_wished ? *wish.group : old;
        const bool key_is_new = fresh.groups.contains(group.id);
        const bool seal = !group.deleted && (fresh.latch || key_is_new || is_wished);
        const bool put_away =
            !group.deleted && !record.recovery_point.empty() && (key_is_new || wish.recovery_point);
        if (!group.deleted && (seal || wish.root)) {
            const SecretBytes& root = wish.root ? fresh.root : unlocked_->root;
            group.key_check = group_key_check(key_of(group.id, fresh.groups, keys), root);
        }
        if (seal) {
            VTPM_CHECK(let_others_in());
            const SecretBytes& key = key_of(group.id, fresh.groups, keys);
            group.generation += key_is_new ? 1 : 0;
            VTPM_TRY(group.key, seal_key(chip_, key, binding_of(record, group)));
        }
        if (put_away) {
            const SecretBytes& key = key_of(group.id, fresh.groups, keys);
            VTPM_TRY(group.escrow,
                     make_escrow(record.recovery_point, {record.manager, group.uuid, key.clone()}));
        }
        if (seal || put_away || wish.root)
            out.push_back(std::move(group));
    }
    return out;
}

Result<void> SqliteVault::renew_record(const Renewal& wish, const Fresh& fresh,
                                       const std::vector<GroupRecord>& groups,
                                       VaultRecord& record) const {
    const Unlocked& open = *unlocked_;
    const SecretBytes& root = wish.root ? fresh.root : open.root;
    GroupRecord standard = *disk_->find_group(record.default_group);
    for (const auto& group : groups)
        standard = group.uuid == record.default_group ? group : standard;
    if (fresh.latch || wish.root || (wish.group && wish.group->id == standard.id)) {
        VTPM_TRY(record.root, seal_key(chip_, root, binding_of(record, standard)));
    }
    if (wish.root) {
        VTPM_TRY(const SecretBytes old_auth, unwrap_key(open.keys.cell, record.cell_auth));
        const SecretBytes& cell_auth = fresh.cell ? fresh.cell_auth : old_auth;
        VTPM_TRY(record.cell_auth, wrap_key(fresh.table.cell, cell_auth));
        VTPM_TRY(record.anchor_key, wrap_key(fresh.table.cell, open.anchor_key));
    }
    if (!record.recovery_point.empty() && (wish.root || wish.recovery_point)) {
        VTPM_TRY(record.escrow, make_escrow(record.recovery_point,
                                            {record.manager, record.manager, root.clone()}));
    }
    return {};
}

// Those whose wrapped key or, with a new root key, whose MAC is another one.
Result<void> SqliteVault::renew_rows(const Fresh& fresh, Change& change) const {
    const Unlocked& open = *unlocked_;
    for (const InstanceRow* const old : open.instances->all_ever()) {
        const auto key = fresh.groups.find(old->group_id);
        const bool wrap = !old->deleted() && key != fresh.groups.end();
        if (!wrap && fresh.root.empty())
            continue;
        InstanceRow row = *old;
        if (wrap) {
            VTPM_TRY(const SecretBytes instance_key, open.instance_key(*old));
            VTPM_TRY(row.wrapped_key, wrap_key(key->second, instance_key));
        }
        change.rows.push_back({std::move(row)});
    }
    return {};
}

// By group; a new root key by the manager's uuid. Whoever starts after a crash in the middle finds
// the keys that were, and those that will be.
void SqliteVault::hand_over(const std::map<Uuid, SecretBytes>& fresh) const {
    if (!successor_ || fresh.empty())
        return;
    KeyBundle bundle;
    bundle.manager = disk_->record.manager;
    bundle.root = unlocked_->root.clone();
    for (const auto& [id, key] : unlocked_->group_keys)
        bundle.keys.emplace(disk_->uuid_of(id), key.clone());
    for (const auto& [owner, key] : fresh)
        bundle.keys.emplace(owner, key.clone());
    successor_(bundle.text());
}

// The chip takes its time for each seal, and there may be many.
Result<void> SqliteVault::let_others_in() const {
    const bool go_on = !meanwhile_ || meanwhile_();
    if (!unlocked_)
        return fail(reason_->code, reason_->next,
                    "the vault was locked while its keys were renewed: " + reason_->context);
    if (!go_on)
        return fail(Errc::locked, NextAction::retry_later,
                    "vtpmmgrd was told to end before this was done: the keys stay as they were");
    return {};
}

// A key that is new and was not put in force leaves something in the chip at worst: an open latch
// that it may be sealed to, on a disk that may have been written after all. That goes once a later
// state is on the disk and in the chip's cell.
Result<void> SqliteVault::renew(const Renewal& wish) {
    auto done = try_renew(wish);
    const bool begun = std::exchange(renewing_, false);
    if (done || !begun || !unlocked_)
        return done;
    leftovers_ = done.error();
    leftovers_pause_ = {};
    unlocked_->epochs->wrote(unix_seconds(), true, 1);
    return done;
}

Result<void> SqliteVault::try_renew(const Renewal& wish) {
    Unlocked& open = *unlocked_;
    const VaultRecord& before = disk_->record;
    if (before.boot_latch() || wish.recovery_point || wish.root)
        VTPM_CHECK(check_all_open(disk_->groups, open.group_keys));
    const bool new_keys = wish.root || wish.all_groups || wish.group_key;
    if (new_keys)
        VTPM_CHECK(check_all_sound(*open.instances));
    VTPM_CHECK(chip_.expect(before.chip));  // it may have been swapped since the start
    // The old keys must not go while the chip may name another state. And what an attempt before
    // this one has left in the chip is on the disk neither now nor later.
    VTPM_CHECK(commit_epoch());
    if (before.boot_latch() || (wish.root && !on_tpm12()))
        VTPM_CHECK(clear_chip());

    renewing_ = true;
    VaultRecord record = before;
    if (wish.recovery_point)
        record.recovery_point = *wish.recovery_point;
    VTPM_TRY(Fresh fresh, make_fresh(wish, record));
    Change change{.action = wish.action, .subject = wish.subject};
    VTPM_TRY(change.groups, renewed_groups(wish, record, fresh));
    VTPM_CHECK(let_others_in());
    VTPM_CHECK(renew_record(wish, fresh, change.groups, record));
    VTPM_CHECK(let_others_in());
    if (new_keys)
        VTPM_CHECK(check_all_sound(*open.instances));  // still
    VTPM_CHECK(renew_rows(fresh, change));
    change.record = std::move(record);
    change.tickets = disk_->tickets;  // they name the import key that goes with the group's
    std::erase_if(*change.tickets, [&](const OpenTicket& ticket) {
        const GroupRecord* const group = disk_->find_group(ticket.group);
        return group != nullptr && fresh.groups.contains(group->id);
    });
    std::map<Uuid, SecretBytes> to_come;
    if (wish.root)
        to_come.emplace(before.manager, fresh.root.clone());
    for (const auto& [id, key] : fresh.groups)
        to_come.emplace(disk_->uuid_of(id), key.clone());
    hand_over(to_come);
    if (fresh.cell) {
        if (open.epochs->writes() > 0)  // by others, meanwhile
            VTPM_CHECK(commit_epoch());
        VTPM_TRY(fresh.epochs, open.epochs->in_new_cell(
                                   CommitCell{static_cast<chip::CellIndex>(change.record->cell),
                                              std::move(fresh.cell_auth), cell_tag(before.manager)},
                                   open.instances->state(), unix_seconds()));
        change.also = [this, first = fresh.epochs->current()] {
            return write(*disk_->database, first);
        };
    }
    // Whatever comes of it: a write that failed may turn out to have happened.
    for (auto* const index : {&fresh.latch, &fresh.cell}) {
        if (*index)
            (*index)->keep();
    }
    return put_in_force(std::move(change), std::move(fresh));
}

Result<void> SqliteVault::put_in_force(Change change, Fresh fresh) {
    Unlocked& open = *unlocked_;
    const bool new_root = !fresh.root.empty();
    // From here on everything is computed with the new keys; the table's sum, too.
    const auto swap_keys = [&] {
        std::swap(open.keys, fresh.table);
        open.instances->recount();
        if (!fresh.epochs)
            return;
        std::swap(*open.epochs, *fresh.epochs);
        open.instances->follow(open.epochs->name());
    };
    if (new_root)
        swap_keys();
    auto done = make(std::move(change), true);
    if (done || !unlocked_) {
        latch_closed_ = false;
        latch_lost_.reset();
    } else if (new_root) {
        swap_keys();
    }
    if (!done)
        return done;
    if (new_root)
        open.root = std::move(fresh.root);
    for (auto& [id, key] : fresh.groups)
        open.group_keys.insert_or_assign(id, std::move(key));
    erase_log();
    // Not before the chip vouches for what is sealed to the new one.
    leftovers_ = open.epochs->writes() > 0
                     ? Error{Errc::chip, NextAction::retry_later, "the last commit is due"}
                     : std::optional<Error>();
    if (!leftovers_)
        (void)clear_chip();
    return {};
}

// Gives back the indices of this vault's that its record does not name: of a recovery or a renewal
// before, or one that was cut short. They carry a tag of our uuid, which was on the disk before
// they were made.
Result<void> SqliteVault::clear_chip() {
    leftovers_tried_ = std::chrono::steady_clock::now();
    const bool again = leftovers_.has_value();
    leftovers_.reset();
    if (auto done = remove_what_is_not_in_force(); !done) {
        leftovers_ = done.error();
        if (again)
            leftovers_pause_ = std::clamp(2 * leftovers_pause_, shortest_pause, longest_pause);
        return done;
    }
    leftovers_pause_ = {};
    return {};
}

Result<void> SqliteVault::remove_what_is_not_in_force() {
    const VaultRecord& record = disk_->record;
    const auto index = [](std::int64_t number) { return static_cast<chip::CellIndex>(number); };
    std::vector<chip::Cell> ours{{index(record.cell), cell_tag(record.manager)}};
    if (!on_tpm12()) {
        ours.push_back({index(record.counter), counter_tag(record.manager)});
        ours.push_back({index(record.latch), latch_tag(record.manager)});
    }
    for (const auto& keep : ours)
        VTPM_CHECK(chip_.remove_other_cells(keep));
    return clear_chip_of_setups(record);
}

// The same with those of a set-up that no vault came of.
Result<void> SqliteVault::clear_chip_of_setups(const VaultRecord& ours) {
    const VaultDirectory files(directory_);
    VTPM_TRY(const auto begun, files.begun());
    if (!begun)
        return {};
    if (*begun != ours.manager && !begun->is_nil()) {
        std::vector<chip::CellTag> tags{cell_tag(*begun)};
        if (!chip::is_tpm12(ours.chip)) {
            tags.push_back(counter_tag(*begun));
            tags.push_back(latch_tag(*begun));
        }
        for (const auto& tag : tags)  // of which a TPM 1.2 sees no more than a few bits
            VTPM_CHECK(chip_.remove_other_cells({static_cast<chip::CellIndex>(ours.cell), tag}));
    }
    return files.end();
}

Result<Group> SqliteVault::rotate_group(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    VTPM_CHECK(open->group_key(group->id));
    VTPM_CHECK(renew({.action = "rotate-group",
                      .subject = subject_of(group->name, uuid) + " to key generation " +
                                 std::to_string(group->generation + 1),
                      .group = *group,
                      .group_key = true}));
    return describe(*disk_->find_group(uuid));
}

Result<void> SqliteVault::rotate_root() {
    VTPM_CHECK(unlocked());
    return renew({.action = "rotate-root", .subject = "all MACs are new", .root = true});
}

}  // namespace vtpm::vault
