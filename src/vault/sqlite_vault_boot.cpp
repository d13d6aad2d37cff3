// SqliteVault's approvals: what is to be signed, what was signed, and what no longer counts.
#include <algorithm>
#include <limits>

#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

constexpr auto max_limit = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

tl::unexpected<Error> no_approver(const GroupRecord& group) {
    return fail(Errc::invalid_argument, "group " + group.name +
                                            " has no approver: its key is given out on any boot; "
                                            "to bind it: vtpmctl approver");
}

tl::unexpected<Error> binding_nothing() {
    return fail(Errc::invalid_argument,
                "these PCR values bind to nothing: all of them are zero, or all are ff");
}

}  // namespace

Result<BootStatement> SqliteVault::statement(const Uuid& uuid, const chip::PcrValues& others,
                                             bool outlives_revocation) {
    VTPM_CHECK(disk());
    if (on_tpm12())
        return not_on_tpm12(
            "approvals that somebody signs; without: vtpmctl approve this-boot "
            "--legacy-tpm12");
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    const chip::Binding binding = binding_of(disk_->record, *group);
    if (!binding.approver)
        return no_approver(*group);
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    BootStatement statement;
    statement.manager = disk_->record.manager;
    statement.group = describe(*group);
    statement.counter = binding.approver->counter.index;
    VTPM_TRY(statement.pcrs, chip_.read_pcrs(group->pcrs));
    for (const auto& [number, value] : others)
        statement.pcrs[number] = value;
    if (binds_nothing(statement.pcrs))
        return binding_nothing();
    VTPM_TRY(statement.limit, chip_.read_counter(binding.approver->counter));
    if (outlives_revocation)
        ++statement.limit;
    VTPM_TRY(statement.words,
             chip_.words_to_sign(*binding.approver, statement.pcrs, statement.limit));
    return statement;
}

Result<void> SqliteVault::approve(const Uuid& uuid, const chip::Approval& approval) {
    VTPM_CHECK(disk());
    if (on_tpm12())
        return not_on_tpm12("approvals that somebody signs");
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    const chip::Binding binding = binding_of(disk_->record, *group);
    if (!binding.approver)
        return no_approver(*group);
    if (approval.pcrs.empty() || approval.pcrs.rbegin()->first > chip::Chip::max_pcr ||
        approval.limit > max_limit) {
        return fail(Errc::invalid_argument, "not a statement about a boot");
    }
    if (binds_nothing(approval.pcrs))
        return binding_nothing();
    for (const std::uint8_t number : group->pcrs) {
        if (!approval.pcrs.contains(number))
            return fail(Errc::invalid_argument, "a statement without PCR " +
                                                    std::to_string(number) +
                                                    ", which this group's approvals are about");
    }
    VTPM_CHECK(chip_.check_approval(*binding.approver, approval));
    Database& database = *disk_->database;
    VTPM_TRY(const auto rows, read_approvals(database, uuid));
    std::vector<std::int64_t> replaced;
    for (const auto& row : rows) {
        if (row.stored.approval.pcrs == approval.pcrs &&
            row.stored.approval.limit <= approval.limit)
            replaced.push_back(row.id);
    }
    if (rows.size() - replaced.size() >= max_approvals) {
        return fail(Errc::too_large, "the group has " + std::to_string(max_approvals) +
                                         " approvals; vtpmctl revoke ends the old ones");
    }
    const auto write_all = [&]() -> Result<void> {
        for (const std::int64_t id : replaced)
            VTPM_CHECK(erase_approval(database, id));
        const auto who = actor_.empty() ? "vtpmmgrd" : actor_;
        return add_approval(database, {uuid, unix_seconds(), approval},
                            unlocked_ ? std::nullopt : std::optional(who));
    };
    if (unlocked_) {
        return make({.action = "approve",
                     .subject = "a boot for group " + subject_of(group->name, uuid),
                     .also = write_all},
                    false);
    }
    // Of a locked vault nothing else can be written; the signature has to do. The journal gets its
    // line once the vault is open.
    VTPM_TRY(Transaction transaction, Transaction::begin(database));
    VTPM_CHECK(write_all());
    return transaction.commit();
}

// Who was there and when is what the disk says, on which anybody may have written; that the
// approver has signed is checked once more, so that nobody has lines written about nothing.
Result<void> SqliteVault::tell_approvals() {
    Database& database = *disk_->database;
    const auto groups = disk_->groups;  // ours: make() puts others into its place
    for (const auto& group : groups) {
        if (group.deleted || group.approver.empty())
            continue;
        const chip::Binding binding = binding_of(disk_->record, group);
        VTPM_TRY(auto rows, read_approvals(database, group.uuid));
        std::reverse(rows.begin(), rows.end());
        for (const auto& row : rows) {
            if (!row.untold)
                continue;
            const auto told = [&] { return approval_is_told(database, row.id); };
            const auto good = chip_.check_approval(*binding.approver, row.stored.approval);
            if (!good && good.error().code != Errc::not_approved)
                return good;
            if (!good) {
                VTPM_CHECK(told());
                continue;
            }
            VTPM_CHECK(make({.action = "approve",
                             .subject = "a boot for group " + subject_of(group.name, group.uuid) +
                                        ", while the vault was locked; by whom and when was "
                                        "written down without a proof",
                             .also = told,
                             .earlier = Change::Earlier{row.stored.made, *row.untold}},
                            false));
        }
    }
    return {};
}

Result<std::vector<StoredApproval>> SqliteVault::approvals() {
    VTPM_CHECK(disk());
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    std::uint64_t counter = 0;
    if (!on_tpm12()) {
        VTPM_TRY(counter, chip_.read_counter(disk_->record.revocations()));
    }
    std::vector<StoredApproval> out;
    for (const auto& group : disk_->groups) {
        if (group.deleted)
            continue;
        for (const auto& boot : binding_of(disk_->record, group).boots) {
            VTPM_TRY(const bool now, matches_boot(chip_, boot));
            StoredApproval stored;
            stored.group = group.uuid;
            stored.approval.pcrs = boot;
            stored.this_boot = now;
            out.push_back(std::move(stored));
        }
        VTPM_TRY(const auto rows, read_approvals(*disk_->database, group.uuid));
        for (const auto& row : rows) {
            StoredApproval stored = row.stored;
            stored.revoked = stored.approval.limit < counter;
            VTPM_TRY(stored.this_boot, matches_boot(chip_, stored.approval.pcrs));
            out.push_back(std::move(stored));
        }
    }
    return out;
}

Result<void> SqliteVault::revoke(bool forced) {
    VTPM_CHECK(unlocked());
    if (on_tpm12())
        return keep_this_boot(forced);
    VTPM_TRY(const auto stored, approvals());
    VTPM_TRY(const auto counter, chip_.read_counter(disk_->record.revocations()));
    for (const auto& group : disk_->groups) {
        if (group.deleted || group.approver.empty() || forced)
            continue;
        const bool survives = std::any_of(stored.begin(), stored.end(), [&](const auto& approval) {
            return approval.group == group.uuid && approval.this_boot &&
                   approval.approval.limit > counter;
        });
        if (!survives) {
            return fail(
                Errc::invalid_argument,
                "after that nothing would open group " + group.name +
                    " on this boot. First: vtpmctl approve this-boot --after-revoke --group " +
                    group.name + "; or, if that is what you want, --force");
        }
    }
    VTPM_TRY(const auto now, chip_.increment_counter(disk_->record.revocations()));
    const auto erase_void = [&]() -> Result<void> {
        for (const auto& group : disk_->groups) {
            VTPM_TRY(const auto rows, read_approvals(*disk_->database, group.uuid));
            for (const auto& row : rows) {
                if (row.stored.approval.limit < now)
                    VTPM_CHECK(erase_approval(*disk_->database, row.id));
            }
        }
        return {};
    };
    return make({.action = "revoke",
                 .subject = "all approvals up to number " + std::to_string(now - 1),
                 .also = erase_void},
                true);
}

Result<std::vector<Event>> SqliteVault::journal(std::uint64_t after, std::size_t limit) {
    VTPM_TRY(Unlocked* const open, unlocked());
    return open->journal->read(after, limit, open->instances->beside().journal);
}

Result<void> SqliteVault::note(std::string_view action, const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    const InstanceRow* const row = open->instances->find(uuid);
    return make({.action = std::string(action),
                 .subject = subject_of(row == nullptr ? "?" : row->facts.name, uuid),
                 .kind = Journal::Kind::guests},
                false);
}

}  // namespace vtpm::vault
