#include "vtpm/vault/sqlite_vault.h"

#include <algorithm>
#include <ctime>

#include "format.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"

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

}  // namespace

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
    VTPM_TRY(disk->record, read_vault_record(*disk->database));
    // The log is there now. SQLite syncs its name, too, but does not ask whether that went well.
    VTPM_CHECK(files.sync());
    disk_ = std::move(disk);
    return {};
}

Status SqliteVault::status() {
    Status status;
    status.phase = unlocked_ ? Phase::open : set_up_ ? Phase::locked : Phase::not_set_up;
    status.reason = reason_;
    status.binding = "this chip only; not to what was booted (no PCR policy yet)";
    if (!disk_)
        return status;
    const auto& record = disk_->record;
    status.manager = record.manager;
    status.chip = record.chip.manufacturer + " " + record.chip.firmware + ", storage key " +
                  to_hex(record.chip.srk_name);
    status.recovery = !record.escrow.empty();
    status.format = format_version;
    if (!unlocked_)
        return status;
    const Epochs& epochs = *unlocked_->epochs;
    const Anchor& anchor = epochs.current();
    status.freshness = Freshness{anchor.epoch,       anchor.committed,
                                 epochs.writes(),    epochs.tokens(unix_seconds()),
                                 anchor.chip_writes, anchor.recoveries};
    for (const InstanceRow* const row : unlocked_->instances->all()) {
        ++status.instances;
        if (row->quarantined())
            ++status.quarantined;
        status.last_commit = std::max(status.last_commit, row->facts.committed);
    }
    if (status.quarantined > 0) {
        status.reason = Error{Errc::corrupt, NextAction::ask_operator,
                              std::to_string(status.quarantined) +
                                  " of the instances do not verify and are in quarantine"};
    } else if (late_commit_) {
        status.reason = Error{late_commit_->code, late_commit_->next,
                              "the chip does not take the commit: " + late_commit_->context};
    } else if (erasing_) {
        status.reason = Error{Errc::io, NextAction::retry_later,
                              "the key of a removed instance may still lie in vault.db-wal"};
    }
    return status;
}

Result<void> SqliteVault::unlock() {
    if (unlocked_)
        return {};
    auto done = try_unlock();
    reason_.reset();
    if (!done)
        reason_ = done.error();
    return done;
}

Result<void> SqliteVault::try_unlock() {
    VTPM_CHECK(open_disk());
    if (!disk_)
        return fail(Errc::not_set_up, "there is no vault here; run vtpmctl setup");
    late_commit_.reset();
    Database& database = *disk_->database;
    const VaultRecord& record = disk_->record;
    VTPM_CHECK(database.check());
    VTPM_CHECK(chip_.expect(record.chip));

    auto unlocked = std::make_unique<Unlocked>();
    {
        VTPM_TRY(const SecretBytes root, unseal_key(chip_, record.root));
        unlocked->keys = derive_table_keys(root);
    }
    const SecretBytes& meta = unlocked->keys.meta;
    if (!equal_constant_time(mac_of(record, meta), record.mac)) {
        return fail(Errc::corrupt,
                    "the row of the vault itself does not verify with the key from the chip");
    }
    VTPM_TRY(unlocked->group, read_group_record(database, record.default_group));
    const GroupRecord& group = unlocked->group;
    if (!equal_constant_time(mac_of(group, record.manager, meta), group.mac)) {
        return fail(Errc::corrupt, "the row of the default group does not verify");
    }
    VTPM_TRY(unlocked->group_key, unseal_key(chip_, group.key));
    if (!equal_constant_time(group_key_check(unlocked->group_key), group.key_check)) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip gave another group key than the one it was given");
    }
    VTPM_TRY(SecretBytes cell_auth, unwrap_key(unlocked->keys.cell, record.cell_auth));
    unlocked->epochs.emplace(chip_, database, record.manager,
                             CommitCell{static_cast<chip::CellIndex>(record.cell),
                                        std::move(cell_auth), cell_tag(record.manager)},
                             unlocked->keys.anchor.clone());
    VTPM_CHECK(unlocked->epochs->resume());
    VTPM_TRY(unlocked->instances, InstanceTable::read(database, unlocked->keys, record.manager,
                                                      surroundings_of(record, group)));
    VTPM_CHECK(check_newest(*unlocked->epochs, *unlocked->instances));
    VTPM_TRY(unlocked->records, RecordTable::open(database));
    VTPM_CHECK(VaultDirectory(directory_).mark(record.manager));
    unlocked_ = std::move(unlocked);
    if (auto folded = fold(); !folded) {
        unlocked_.reset();
        return folded;
    }
    return {};
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
    unlocked_->epochs->wrote(unix_seconds(), urgent);
    if (urgent)
        (void)commit_epoch();
}

Result<void> SqliteVault::commit_due() {
    if (!unlocked_ || !unlocked_->epochs->due(unix_seconds()))
        return {};
    return commit_epoch();
}

Result<void> SqliteVault::close() {
    if (!unlocked_ || unlocked_->epochs->writes() == 0)
        return {};
    return commit_epoch();
}

Result<SqliteVault::Unlocked*> SqliteVault::unlocked() {
    if (unlocked_)
        return unlocked_.get();
    if (!set_up_)
        return fail(Errc::not_set_up, "there is no vault here; run vtpmctl setup");
    return fail(Errc::locked,
                "the vault is locked" + (reason_ ? ": " + reason_->context : std::string()));
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
        return fail(Errc::corrupt, "instance " + uuid.to_string() +
                                       " is in quarantine: " + row->what_is_wrong +
                                       "; restore the vault from a backup, or delete it");
    }
    return row;
}

Result<SecretBytes> unseal_key(chip::Chip& chip, const chip::SealedObject& sealed) {
    auto key = chip.unseal(sealed);
    if (!key && key.error().code == Errc::wrong_chip) {
        // expect() has proved the chip to be the right one, so it is the object that is not.
        return fail(Errc::corrupt, "a sealed key on the disk was changed: " + key.error().context);
    }
    if (key && key->size() != key_size) {
        return fail(Errc::chip, NextAction::ask_operator, "the chip gave a key of the wrong size");
    }
    return key;
}

Result<chip::SealedObject> seal_key(chip::Chip& chip, const SecretBytes& key) {
    VTPM_TRY(chip::SealedObject sealed, chip.seal(key));
    VTPM_TRY(const SecretBytes again, unseal_key(chip, sealed));
    if (!equal_constant_time(again.view(), key.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip unseals something else than it sealed");
    }
    return sealed;
}

Hash surroundings_of(const VaultRecord& record, const GroupRecord& group) {
    return sha256(ByteWriter().bytes(record.mac).bytes(group.mac).take());
}

std::int64_t unix_seconds() {
    return static_cast<std::int64_t>(std::time(nullptr));
}

}  // namespace vtpm::vault
