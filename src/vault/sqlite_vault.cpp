#include "vtpm/vault/sqlite_vault.h"

#include <algorithm>
#include <ctime>

#include "format.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"

namespace vtpm::vault {

SqliteVault::SqliteVault(std::filesystem::path directory, chip::Chip& chip)
    : directory_(std::move(directory)), chip_(chip) {
    if (auto opened = open_disk(); !opened)
        reason_ = std::move(opened).error();
}

SqliteVault::~SqliteVault() = default;

Result<void> SqliteVault::open_disk() {
    if (disk_)
        return {};
    const VaultDirectory files(directory_);
    set_up_ = true;  // an error below is about a vault that is there
    VTPM_TRY(set_up_, files.holds_vault());
    if (!set_up_)
        return {};
    auto disk = std::make_unique<Disk>();
    VTPM_TRY(disk->database, Database::open(files.database()));
    VTPM_CHECK(check_format(*disk->database));
    VTPM_CHECK(disk->database->use_log());
    VTPM_CHECK(bring_up_to_date(*disk->database));
    VTPM_TRY(disk->record, read_vault_record(*disk->database));
    VTPM_TRY(disk->groups, read_group_records(*disk->database));
    VTPM_TRY(disk->tickets, read_tickets(*disk->database));
    if (disk->find_group(disk->record.default_group) == nullptr)
        return fail(Errc::corrupt, "vault.db has lost the row of the default group");
    // The log is there now. SQLite syncs its name, too, but does not ask whether that went well.
    VTPM_CHECK(files.sync());
    disk_ = std::move(disk);
    return {};
}

Status SqliteVault::status() {
    Status status;
    status.phase = unlocked_ ? Phase::open : set_up_ ? Phase::locked : Phase::not_set_up;
    status.reason = reason_;
    if (!disk_)
        return status;
    status.binding = binding_text();
    if (on_tpm12())
        status.limits = tpm12_limits();
    status.latch = !disk_->record.boot_latch() ? LatchState::none
                   : latch_closed_             ? LatchState::closed
                                               : LatchState::open;
    const auto& record = disk_->record;
    status.manager = record.manager;
    status.chip = record.chip.manufacturer + " " + record.chip.firmware + ", storage key " +
                  to_hex(record.chip.srk_name);
    status.recovery = !record.recovery_point.empty();
    status.format = format_version;
    if (!unlocked_)
        return status;
    const Epochs& epochs = *unlocked_->epochs;
    const Anchor& anchor = epochs.current();
    status.freshness = Freshness{anchor.epoch,       anchor.committed,
                                 epochs.writes(),    epochs.tokens(unix_seconds()),
                                 anchor.chip_writes, anchor.recoveries};
    for (const auto& group : disk_->groups)
        status.groups += group.deleted ? 0 : 1;
    status.closed_groups = unlocked_->closed.size();
    for (const InstanceRow* const row : unlocked_->instances->all()) {
        ++status.instances;
        status.snapshot_bytes += row->facts.snapshot_bytes;
        if (row->quarantined())
            ++status.quarantined;
        status.last_commit = std::max(status.last_commit, row->facts.committed);
    }
    if (status.quarantined > 0) {
        status.reason = Error{Errc::corrupt, NextAction::ask_operator,
                              std::to_string(status.quarantined) +
                                  " of the instances do not verify and are in quarantine"};
    } else if (latch_lost_) {
        status.reason = latch_lost_;
    } else if (late_commit_) {
        status.reason = Error{late_commit_->code, late_commit_->next,
                              "the chip does not take the commit: " + late_commit_->context};
    } else if (erasing_) {
        status.reason = Error{Errc::io, NextAction::retry_later,
                              "the key of a removed instance may still lie in vault.db-wal"};
    } else if (leftovers_) {
        status.reason = Error{leftovers_->code, leftovers_->next,
                              "the chip may still open older copies of the disk, or what a failed "
                              "renewal of keys has sealed: an NV index that the vault does not use "
                              "may be left in it: " +
                                  leftovers_->context};
    }
    return status;
}

// For people.
std::string SqliteVault::binding_text() const {
    const GroupRecord& group = *disk_->find_group(disk_->record.default_group);
    std::string pcrs;
    for (const std::uint8_t number : group.pcrs)
        pcrs += (pcrs.empty() ? "" : ",") + std::to_string(number);
    if (on_tpm12())
        return "this chip (TPM 1.2), and the boots that were approved here over PCRs " + pcrs;
    if (group.approver.empty())
        return "this chip only; not to what was booted: whoever runs any system on this host as "
               "root can have them (vtpmctl approver --help)";
    return "this chip, and boots that are approved over PCRs " + pcrs +
           " by the key with SHA-256 " + short_fingerprint(chip_, group);
}

// For what needs no keys. Why there is nothing to read is in status().reason as it was found.
Result<SqliteVault::Disk*> SqliteVault::disk() {
    if (!disk_) {
        if (auto opened = open_disk(); !opened)
            reason_ = std::move(opened).error();
    }
    if (disk_)
        return disk_.get();
    VTPM_CHECK(unlocked());
    return tl::make_unexpected(no_vault());
}

Result<SqliteVault::Unlocked*> SqliteVault::unlocked() {
    if (unlocked_)
        return unlocked_.get();
    if (!set_up_)
        return tl::make_unexpected(no_vault());
    return fail(Errc::locked,
                "the vault is locked" + (reason_ ? ": " + reason_->context : std::string()));
}

// All that an operator changes is changed here.
Result<void> SqliteVault::make(Change change, bool urgent) {
    Unlocked& open = *unlocked_;
    const VaultRecord& before = disk_->record;
    if (change.record)
        change.record->mac = mac_of(*change.record, open.keys.meta);
    std::vector<GroupRecord> groups = disk_->groups;
    for (auto& group : change.groups) {
        group.mac = mac_of(group, before.manager, open.keys.meta);
        const auto same = [&](const GroupRecord& other) { return other.id == group.id; };
        const auto old = std::find_if(groups.begin(), groups.end(), same);
        if (old == groups.end()) {
            groups.push_back(group);
        } else {
            *old = group;
        }
    }
    Event event;
    event.at = unix_seconds();
    event.actor = actor_.empty() ? "vtpmmgrd" : actor_;
    if (change.earlier) {
        event.at = change.earlier->at;
        event.actor = change.earlier->actor;
    }
    event.action = change.action;
    event.subject = change.subject;
    VTPM_TRY(const auto line,
             open.journal->next(event, open.instances->beside().journal, change.kind));
    const Beside beside{surroundings_of(change.record.value_or(before), groups,
                                        change.tickets.value_or(disk_->tickets)),
                        line.mac};
    const auto write_all = [&]() -> Result<void> {
        VTPM_CHECK(open.journal->write(line));
        if (change.record)
            VTPM_CHECK(write(*disk_->database, *change.record));
        for (const auto& group : change.groups)
            VTPM_CHECK(write(*disk_->database, group));
        if (change.tickets)
            VTPM_CHECK(write_tickets(*disk_->database, *change.tickets));
        return change.also ? change.also() : Result<void>();
    };
    VTPM_CHECK(open.instances->commit_all(std::move(change.rows), beside, write_all));
    reason_.reset();
    if (change.record)
        disk_->record = std::move(*change.record);
    disk_->groups = std::move(groups);
    if (change.tickets)
        disk_->tickets = std::move(*change.tickets);
    wrote(urgent);
    if (unlocked_)
        return {};
    // What the caller holds of the open vault is gone.
    return fail(reason_->code, reason_->next,
                "it is written down, but the vault is locked now: " + reason_->context);
}

// What was overwritten in the database (secure_delete) still lies in older frames of its log.
void SqliteVault::erase_log() {
    erasing_ = !disk_->database->erase_log();
}

// What was written since the last commit, by a manager that did not end in order, is committed
// before anything else happens: a copy of the disk from before that is old then.
Result<void> SqliteVault::fold() {
    if (unlocked_->instances->state() == unlocked_->epochs->current().state) {
        unlocked_->instances->follow(unlocked_->epochs->name());
        return {};
    }
    return commit_epoch();
}

Result<void> SqliteVault::commit_epoch() {
    Epochs& epochs = *unlocked_->epochs;
    InstanceTable& instances = *unlocked_->instances;
    late_commit_.reset();
    auto done = epochs.commit(instances.state(), unix_seconds());
    if (done) {
        instances.follow(epochs.name());
        unlocked_->unproven.clear();
        return {};
    }
    instances.follow(epochs.name(), epochs.pending().value_or(Hash{}));
    late_commit_ = done.error();
    if (done.error().code == Errc::rolled_back || done.error().code == Errc::wrong_cell) {
        // The cell was extended by somebody else, or is gone: no write could ever be committed.
        reason_ = done.error();
        unlocked_.reset();
    }
    return done;
}

// After a change that is durable: a commit that fails is tried again by commit_due().
void SqliteVault::wrote(bool urgent) {
    unlocked_->epochs->wrote(unix_seconds(), urgent, 1);
    if (urgent)
        (void)commit_epoch();
}

Result<void> SqliteVault::commit_due() {
    if (!unlocked_)
        return {};
    Database& database = *disk_->database;
    // What fails here is tried again, and reported, by idle().
    if (database.log_pages() > Database::worth_a_checkpoint)
        (void)database.checkpoint();
    if (!database.log_reserved())
        (void)database.reserve_log();
    if (!unlocked_->epochs->due(unix_seconds()))
        return {};
    return commit_epoch();
}

Result<void> SqliteVault::close() {
    if (!unlocked_ || unlocked_->epochs->writes() == 0)
        return {};
    return commit_epoch();
}

Result<const InstanceRow*> SqliteVault::Unlocked::usable(const Uuid& uuid) const {
    const InstanceRow* const row = instances->find(uuid);
    if (row == nullptr) {
        return fail(Errc::not_found, "no instance " + uuid.to_string() +
                                         "; to make it: vtpmctl create --name NAME --uuid " +
                                         uuid.to_string());
    }
    if (row->deleted()) {
        return fail(Errc::not_found, "instance " + uuid.to_string() +
                                         " was deleted, and a uuid is not used twice; to make "
                                         "another one: vtpmctl create --name NAME");
    }
    if (row->quarantined()) {
        const bool kept = row->sound && !row->snapshots.empty();
        return fail(Errc::corrupt,
                    "instance " + uuid.to_string() + " is in quarantine: " + row->what_is_wrong +
                        "; restore the vault from a backup, " +
                        (kept ? "revert it to one of its snapshots (vtpmctl snapshots " +
                                    row->facts.name + "), "
                              : "") +
                        "or delete it");
    }
    return row;
}

Result<InstanceRow> SqliteVault::Unlocked::with_snapshots(const Uuid& uuid) const {
    const InstanceRow* const row = instances->find(uuid);
    if (row == nullptr || !row->sound || !row->state_on_disk) {
        VTPM_TRY(const InstanceRow* const good, usable(uuid));
        return *good;
    }
    InstanceRow as_on_disk = *row;
    as_on_disk.facts.state = *row->state_on_disk;
    as_on_disk.state_on_disk.reset();
    as_on_disk.what_is_wrong.clear();
    return as_on_disk;
}

Result<const InstanceRow*> SqliteVault::Unlocked::served(const Uuid& uuid) const {
    VTPM_TRY(const InstanceRow* const row, usable(uuid));
    if (row->exported())
        return tl::make_unexpected(exported_away(*row));
    return row;
}

Result<const SecretBytes*> SqliteVault::Unlocked::group_key(std::int64_t group) const {
    if (const auto key = group_keys.find(group); key != group_keys.end())
        return &key->second;
    const auto why = closed.find(group);
    return fail(
        Errc::locked,
        "its group is closed" + (why == closed.end() ? std::string() : ": " + why->second.context));
}

const GroupRecord* SqliteVault::Disk::find_group(const Uuid& uuid) const {
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const GroupRecord& group) { return group.uuid == uuid; });
    return found == groups.end() ? nullptr : &*found;
}

Uuid SqliteVault::Disk::uuid_of(std::int64_t group) const {
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const GroupRecord& other) { return other.id == group; });
    return found == groups.end() ? Uuid() : found->uuid;
}

Result<const GroupRecord*> SqliteVault::Disk::live_group(const Uuid& uuid) const {
    const GroupRecord* const group = find_group(uuid);
    if (group == nullptr || group->deleted)
        return fail(Errc::not_found, "no group " + uuid.to_string());
    return group;
}

Hash surroundings_of(const VaultRecord& record, const std::vector<GroupRecord>& groups,
                     const std::vector<OpenTicket>& tickets) {
    ByteWriter writer;
    writer.bytes(record.mac).u64(groups.size());
    for (const auto& group : groups)
        writer.bytes(group.mac);
    writer.bytes(digest_of(tickets));
    return sha256(writer.written());
}

std::string subject_of(std::string_view name, const Uuid& uuid) {
    return std::string(name) + " (" + uuid.to_string() + ")";
}

std::int64_t unix_seconds() {
    return static_cast<std::int64_t>(std::time(nullptr));
}

}  // namespace vtpm::vault
