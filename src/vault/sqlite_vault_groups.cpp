// SqliteVault's groups: create, list, find, open, close, remove, and who approves their boots.
#include <algorithm>

#include "sqlite_vault_parts.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

// What a Xen host measures before its dom0 runs (reference/sealing.md 1.2): firmware, boot loader,
// secure boot's state, and what GRUB and shim add.
constexpr std::array<std::uint8_t, 7> usual_pcrs{0, 2, 4, 7, 8, 9, 14};

std::string approver_text(chip::Chip& chip, const GroupRecord& group) {
    return group.approver.empty() ? ", no approver"
                                  : ", approver SHA-256 " + short_fingerprint(chip, group);
}

}  // namespace

std::string short_fingerprint(chip::Chip& chip, const GroupRecord& group) {
    const auto digest = chip.approver_fingerprint(group.approver);
    return digest ? to_hex(*digest).substr(0, 16) : "unknown";
}

Result<void> take_approver(chip::Chip& chip, const ApproverWish& wish, GroupRecord& into) {
    into.approver.clear();
    into.pcrs.clear();
    if (wish.key.empty()) {
        if (wish.pcrs.empty())
            return {};
        return fail(Errc::invalid_argument, "PCRs bind to nothing without an approver's key");
    }
    VTPM_TRY(into.approver, chip.approver_key(wish.key));
    VTPM_TRY(into.pcrs, pcrs_of(chip, wish));
    return {};
}

Result<Bytes> pcrs_of(chip::Chip& chip, const ApproverWish& wish) {
    Bytes pcrs = wish.pcrs;
    if (pcrs.empty())
        pcrs.assign(usual_pcrs.begin(), usual_pcrs.end());
    std::sort(pcrs.begin(), pcrs.end());
    pcrs.erase(std::unique(pcrs.begin(), pcrs.end()), pcrs.end());
    // TCG PC Client Platform TPM Profile, table of PCR attributes: anybody may reset these two.
    if (std::all_of(pcrs.begin(), pcrs.end(), [](auto n) { return n == 16 || n == 23; }))
        return fail(Errc::invalid_argument, "PCRs 16 and 23 can be reset by anybody on any boot");
    VTPM_TRY(const auto now, chip.read_pcrs(pcrs));
    if (binds_nothing(now)) {
        return fail(Errc::invalid_argument,
                    "nothing is measured into these PCRs (all of them are zero, or all are ff), so "
                    "that they would bind to nothing; choose others, or switch measured boot on");
    }
    return pcrs;
}

Group SqliteVault::describe(const GroupRecord& record) const {
    Group group;
    group.uuid = record.uuid;
    group.name = record.name;
    group.is_default = disk_->is_default(record);
    if (!record.approver.empty()) {
        // Of a row that is not verified yet it may be no key at all.
        const auto digest = chip_.approver_fingerprint(record.approver).value_or(chip::Digest{});
        group.approver.assign(digest.begin(), digest.end());
    }
    group.pcrs = record.pcrs;
    group.generation = static_cast<std::uint32_t>(record.generation);
    if (!unlocked_) {
        group.reason = reason_;
        return group;
    }
    group.open = unlocked_->group_keys.contains(record.id);
    if (const auto why = unlocked_->closed.find(record.id); why != unlocked_->closed.end())
        group.reason = why->second;
    for (const InstanceRow* const row : unlocked_->instances->all())
        group.instances += row->group_id == record.id ? 1 : 0;
    return group;
}

Result<std::vector<Group>> SqliteVault::groups() {
    VTPM_CHECK(disk());
    std::vector<Group> out;
    for (const auto& record : disk_->groups) {
        if (!record.deleted)
            out.push_back(describe(record));
    }
    return out;
}

Result<Group> SqliteVault::find_group(std::string_view selector) {
    VTPM_CHECK(disk());
    const auto uuid = Uuid::parse(selector);
    for (const auto& record : disk_->groups) {
        const bool named = selector.empty() ? disk_->is_default(record)
                           : uuid           ? record.uuid == *uuid
                                            : record.name == selector;
        if (named && !record.deleted)
            return describe(record);
    }
    return fail(Errc::not_found, "no group has that name or uuid; see vtpmctl group list");
}

Result<Group> SqliteVault::create_group(std::string_view name, const ApproverWish& approver) {
    VTPM_TRY(Unlocked* const open, unlocked());
    if (!valid_name(name)) {
        return fail(Errc::invalid_argument,
                    "a group's name is 1 to 64 of A-Z a-z 0-9 . _ -, does not begin with - or ., "
                    "and is not a uuid");
    }
    for (const auto& group : disk_->groups) {
        if (!group.deleted && group.name == name)
            return fail(Errc::already_exists,
                        "there is a group named " + std::string(name) + " already");
    }
    if (disk_->groups.size() >= max_groups)
        return fail(Errc::too_large, "the vault holds no more groups");
    const VaultRecord& record = disk_->record;
    VTPM_CHECK(chip_.expect(record.chip));  // it may have been swapped since the vault was opened
    GroupRecord group;
    group.id = disk_->groups.back().id + 1;
    group.uuid = Uuid::random();
    group.name = name;
    if (on_tpm12() && !approver.key.empty())
        return not_on_tpm12("approvers");
    VTPM_CHECK(take_approver(chip_, approver, group));
    if (approver.key.empty()) {
        // Not unbound by oversight on a host that is bound.
        const GroupRecord& standard = *disk_->find_group(record.default_group);
        group.approver = standard.approver;
        group.pcrs = standard.pcrs;
        if (on_tpm12())
            group.key = standard.key;  // for its boots; replaced below
    }
    VTPM_TRY(SecretBytes key, new_key(chip_, "xen-vtpm K_grp 1"));
    group.key_check = group_key_check(key, open->root);
    VTPM_TRY(group.key, seal_key(chip_, key, binding_of(record, group)));
    if (!record.recovery_point.empty()) {
        VTPM_TRY(group.escrow,
                 make_escrow(record.recovery_point, {record.manager, group.uuid, key.clone()}));
    }
    std::map<Uuid, SecretBytes> fresh;
    fresh.emplace(group.uuid, key.clone());
    hand_over(fresh);
    VTPM_CHECK(make({.action = "group-create",
                     .subject = subject_of(group.name, group.uuid) + approver_text(chip_, group),
                     .groups = {group}},
                    true));
    open->group_keys.emplace(group.id, std::move(key));
    return describe(group);
}

Result<Group> SqliteVault::open_group(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    if (open->group_keys.contains(group->id))
        return describe(*group);
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    auto key = checked_group_key(*group, keys_from_chip(), open->root);
    if (!key) {
        open->closed.insert_or_assign(group->id, key.error());
        return tl::make_unexpected(std::move(key).error());
    }
    const std::int64_t id = group->id;
    VTPM_CHECK(make({.action = "group-open", .subject = subject_of(group->name, uuid)}, false));
    open->closed.erase(id);
    open->group_keys.insert_or_assign(id, std::move(*key));
    return describe(*disk_->find_group(uuid));
}

Result<Group> SqliteVault::close_group(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    if (disk_->is_default(*group))
        return fail(Errc::invalid_argument, "the default group is open as long as the vault is");
    if (open->group_keys.contains(group->id)) {
        VTPM_CHECK(
            make({.action = "group-close", .subject = subject_of(group->name, uuid)}, false));
        const std::int64_t id = disk_->find_group(uuid)->id;
        open->group_keys.erase(id);
        open->closed.insert_or_assign(
            id, Error{Errc::locked, NextAction::ask_operator,
                      "an operator closed it; to open it: vtpmctl group open"});
    }
    return describe(*disk_->find_group(uuid));
}

Result<void> SqliteVault::remove_group(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    if (disk_->is_default(*group))
        return fail(Errc::invalid_argument, "the default group cannot be deleted");
    if (describe(*group).instances > 0)
        return fail(Errc::in_use, "the group has instances; delete or export them first");
    GroupRecord changed = *group;
    changed.deleted = true;
    changed.key = {};
    changed.escrow.clear();
    const auto erase_approvals = [&]() -> Result<void> {
        VTPM_TRY(const auto rows, read_approvals(*disk_->database, uuid));
        for (const auto& row : rows)
            VTPM_CHECK(erase_approval(*disk_->database, row.id));
        return {};
    };
    auto tickets = disk_->tickets;
    std::erase_if(tickets, [&](const OpenTicket& ticket) { return ticket.group == uuid; });
    VTPM_CHECK(make({.action = "group-delete",
                     .subject = subject_of(changed.name, uuid),
                     .groups = {changed},
                     .tickets = std::move(tickets),
                     .also = erase_approvals},
                    true));
    open->group_keys.erase(changed.id);
    open->closed.erase(changed.id);
    erase_log();
    return {};
}

Result<Group> SqliteVault::set_approver(const Uuid& uuid, const ApproverWish& approver) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    if (on_tpm12())
        return not_on_tpm12("approvers");
    VTPM_CHECK(open->group_key(group->id));
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    GroupRecord changed = *group;
    VTPM_CHECK(take_approver(chip_, approver, changed));
    ++changed.config_sequence;
    VTPM_CHECK(renew({.action = "approver",
                      .subject = subject_of(changed.name, uuid) + approver_text(chip_, changed),
                      .group = changed}));
    return describe(*disk_->find_group(uuid));
}

}  // namespace vtpm::vault
