// SqliteVault on a TPM 1.2: keys sealed once for each boot that an operator approves.
//
// There is no policy that somebody could sign elsewhere, so an approval is a new sealed object,
// made while the keys are at hand. The boots that there are already stand in the sealed object
// itself, which the row's MAC covers; nothing is taken from the table of signed approvals. See
// docs/decisions/0008.
#include <algorithm>
#include <set>
#include <utility>

#include "sqlite_vault_parts.h"

namespace vtpm::vault {

Result<void> check_generation(chip::Chip& chip, const SetupWishes& wishes) {
    VTPM_TRY(const auto generation, chip.generation());
    const bool legacy = generation == chip::Generation::tpm_1_2;
    if (legacy && !wishes.legacy_tpm12) {
        return fail(Errc::unsupported,
                    "the host's chip is a TPM 1.2: its secrets pass its bus in the clear, nobody "
                    "elsewhere can approve its boots, it cannot take back an approval and has no "
                    "boot latch. If you can live with that: vtpmctl setup --legacy-tpm12");
    }
    if (!legacy && wishes.legacy_tpm12) {
        return fail(Errc::unsupported,
                    "the host's chip is a TPM 2.0: set it up without --legacy-tpm12");
    }
    if (legacy && !wishes.approver.key.empty())
        return not_on_tpm12("approvers");
    if (legacy && wishes.latch)
        return not_on_tpm12("boot latch");
    return {};
}

Result<chip::PcrValues> choose_boot(chip::Chip& chip, const ApproverWish& wish, GroupRecord& into) {
    VTPM_TRY(into.pcrs, pcrs_of(chip, wish));
    return boot_of(chip, into);
}

Result<chip::PcrValues> boot_of(chip::Chip& chip, const GroupRecord& group) {
    VTPM_TRY(auto boot, chip.read_pcrs(group.pcrs));
    if (binds_nothing(boot)) {
        return fail(Errc::invalid_argument,
                    "nothing is measured into the PCRs that this group is sealed to");
    }
    return boot;
}

// A seal for another boot would be found out at the next start, when nobody has the keys.
Result<chip::SealedObject> seal_for_this_boot(chip::Chip& chip, const SecretBytes& key,
                                              const chip::PcrValues& boot) {
    chip::Binding binding;
    binding.boots = {boot};
    VTPM_TRY(chip::SealedObject sealed, seal_key(chip, key, binding));
    const auto again = chip.unseal(sealed, binding, nullptr);
    if (!again && again.error().code == Errc::not_approved)
        return fail(Errc::not_approved, NextAction::retry_later,
                    "the PCRs have changed since they were read: choose those that are measured "
                    "into before the system runs (--pcrs)");
    if (!again)
        return tl::make_unexpected(again.error());
    return sealed;
}

tl::unexpected<Error> not_on_tpm12(std::string_view what) {
    return fail(Errc::unsupported,
                "the host's chip is a TPM 1.2, which has no " + std::string(what));
}

std::vector<std::string> tpm12_limits() {
    return {
        "keep the keys off its bus: who listens there has them",
        "latch: root of an approved boot can have the keys from it at any time",
        "verify an approver: boots are approved here, by root, while the vault is open",
        "take back an approval: it holds for every copy of the disk made so far (vtpmctl revoke is "
        "for those to come)",
        "extend memory: who has the commit cell's authorization value can make an old state count "
        "as the newest",
        "give a new root key a commit cell of another secret: who had the old key keeps that way",
        "measure with more than SHA-1",
    };
}

bool SqliteVault::on_tpm12() const {
    return disk_ && chip::is_tpm12(disk_->record.chip);
}

// One that was approved before an update, and has not run yet, is lost like all others.
Result<void> SqliteVault::check_no_boot_lost() const {
    std::set<chip::PcrValues> lost;
    bool approved = true;
    for (const GroupRecord& group : disk_->groups) {
        if (group.deleted)
            continue;
        VTPM_TRY(const auto now, boot_of(chip_, group));
        const auto boots = binding_of(disk_->record, group).boots;
        lost.insert(boots.begin(), boots.end());
        lost.erase(now);
        approved = approved && std::find(boots.begin(), boots.end(), now) != boots.end();
    }
    if (lost.empty() && approved)
        return {};
    return fail(
        Errc::invalid_argument,
        "after that the vault opens on the boot that runs" +
            std::string(approved ? "" : ", which was not approved until now,") +
            " and no other. Approved boots that would be lost: " + std::to_string(lost.size()) +
            ", be it one that waits for its first start after an update. See: vtpmctl "
            "approve list. If that is what you want: --force");
}

// The same keys. What was sealed for other boots lies in older copies of the disk, and opens there
// as before; in this one it must not be left.
Result<void> SqliteVault::keep_this_boot(bool forced) {
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    if (!forced)
        VTPM_CHECK(check_no_boot_lost());
    Change change{.action = "revoke", .subject = "all approved boots but this one"};
    renewing_ = true;
    const auto sealed = seal_all_for_this_boot(change);
    renewing_ = false;
    VTPM_CHECK(sealed);
    VTPM_CHECK(make(std::move(change), true));
    erase_log();
    return {};
}

Result<void> SqliteVault::seal_all_for_this_boot(Change& change) {
    Unlocked& open = *unlocked_;
    change.record = disk_->record;
    for (GroupRecord group : disk_->groups) {
        if (group.deleted)
            continue;
        VTPM_CHECK(let_others_in());
        VTPM_TRY(const SecretBytes* const key, open.group_key(group.id));
        VTPM_TRY(const auto boot, boot_of(chip_, group));
        VTPM_TRY(group.key, seal_for_this_boot(chip_, *key, boot));
        if (disk_->is_default(group)) {
            VTPM_TRY(change.record->root, seal_for_this_boot(chip_, open.root, boot));
        }
        ++group.config_sequence;
        change.groups.push_back(std::move(group));
    }
    return {};
}

Result<void> SqliteVault::approve_unsigned(const Uuid& uuid, const chip::PcrValues& others) {
    VTPM_TRY(Unlocked* const open, unlocked());
    if (!on_tpm12()) {
        return fail(
            Errc::invalid_argument,
            "the host's chip is a TPM 2.0: a group's approver has to sign (--key or --out)");
    }
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    VTPM_TRY(const SecretBytes* const key, open->group_key(group->id));
    VTPM_CHECK(chip_.expect(disk_->record.chip));
    VTPM_TRY(chip::PcrValues boot, chip_.read_pcrs(group->pcrs));
    for (const auto& [number, value] : others) {
        if (!boot.contains(number))
            return fail(Errc::invalid_argument,
                        "the group is not sealed to PCR " + std::to_string(number));
        boot[number] = value;
    }
    if (binds_nothing(boot)) {
        return fail(Errc::invalid_argument,
                    "these PCR values bind to nothing: all of them are zero, or all are ff");
    }
    GroupRecord changed = *group;
    chip::Binding binding = binding_of(disk_->record, changed);
    if (std::find(binding.boots.begin(), binding.boots.end(), boot) != binding.boots.end())
        return {};
    if (binding.boots.size() >= chip::max_boots) {
        return fail(Errc::too_large, "the group has " + std::to_string(chip::max_boots) +
                                         " approved boots; vtpmctl revoke --force leaves none but "
                                         "the one that runs");
    }
    binding.boots.push_back(boot);
    VTPM_TRY(changed.key, seal_key(chip_, *key, binding));
    ++changed.config_sequence;
    Change change{
        .action = "approve",
        .subject = "a boot for group " + subject_of(changed.name, uuid) + ", signed by nobody"};
    if (disk_->is_default(changed)) {
        change.record = disk_->record;
        VTPM_TRY(change.record->root, seal_key(chip_, open->root, binding));
    }
    change.groups.push_back(std::move(changed));
    return make(std::move(change), true);
}

}  // namespace vtpm::vault
