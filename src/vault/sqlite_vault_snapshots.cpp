// SqliteVault's snapshots, and what is made of them: reverts and clones (docs/decisions/0011).
#include <algorithm>

#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

RecordLabel label_of(const Uuid& manager, const InstanceRow& row, const StoredRecord& record) {
    return label_of(manager, row, BlobKind::snapshot, record);
}

Result<const KeptSnapshot*> find_snapshot(const InstanceRow& row, std::string_view name) {
    const auto found = std::find_if(row.snapshots.begin(), row.snapshots.end(),
                                    [&](const auto& snapshot) { return snapshot.name == name; });
    if (found == row.snapshots.end())
        return fail(Errc::not_found, "instance " + row.facts.name +
                                         " has no snapshot of that name; see: vtpmctl snapshots " +
                                         row.facts.name);
    return &*found;
}

Result<void> check_new_snapshot(const InstanceRow& row, std::string_view name) {
    if (!valid_name(name))
        return fail(Errc::invalid_argument,
                    "a snapshot's name is 1 to 64 of A-Z a-z 0-9 . _ -, does not begin with - or "
                    "., and is not a uuid");
    if (find_snapshot(row, name))
        return fail(Errc::already_exists, "instance " + row.facts.name + " has a snapshot named " +
                                              std::string(name) + " already");
    if (row.snapshots.size() >= Vault::max_snapshots)
        return fail(Errc::too_large, "instance " + row.facts.name + " has " +
                                         std::to_string(Vault::max_snapshots) +
                                         " snapshots, and more are not kept; delete one first");
    return {};
}

// For `size` bytes more, in the vault as a whole.
Result<void> check_room(const InstanceTable& instances, std::uint64_t size) {
    std::uint64_t kept = 0;
    for (const InstanceRow* const row : instances.all())
        kept += row->facts.snapshot_bytes;
    if (kept + size <= Vault::max_snapshot_bytes)
        return {};
    return fail(Errc::too_large, "the snapshots of all instances have " + std::to_string(kept) +
                                     " bytes, and with this one it would be more than " +
                                     std::to_string(Vault::max_snapshot_bytes) +
                                     "; delete some first: vtpmctl list --json says who has them");
}

std::uint8_t free_place(const InstanceRow& row) {
    std::uint8_t place = 0;
    const auto taken = [&] {
        return std::any_of(row.snapshots.begin(), row.snapshots.end(),
                           [&](const auto& snapshot) { return snapshot.place == place; });
    };
    while (taken())
        ++place;
    return place;
}

// Under the key and of the generation of `row`.
Result<StoredRecord> seal(const SecretBytes& key, const Uuid& manager, const Hash& anchor,
                          const InstanceRow& row, const SecretBytes& content,
                          KeptSnapshot& snapshot) {
    StoredRecord record;
    record.generation = row.facts.generation;
    record.sequence = snapshot.sequence;
    record.anchor = anchor;
    VTPM_TRY(record.content, seal_record(key, label_of(manager, row, record), content));
    snapshot.digest = digest_of(BlobKind::snapshot, record);
    snapshot.bytes = content.size();
    return record;
}

Result<const SecretBytes*> permanent_state(const LoadedState& state, const InstanceRow& row) {
    for (const auto& [kind, content] : state.blobs) {
        if (kind == BlobKind::permanent)
            return &content;
    }
    return fail(Errc::invalid_argument, "the TPM of instance " + row.facts.name +
                                            " was never started: there is nothing of it yet");
}

// That, and nothing beside it.
std::vector<BlobChange> nothing_but(const SecretBytes& permanent) {
    std::vector<BlobChange> changes;
    changes.push_back({BlobKind::permanent, permanent.clone()});
    changes.push_back({BlobKind::volatile_state, std::nullopt});
    changes.push_back({BlobKind::saved, std::nullopt});
    return changes;
}

}  // namespace

// After an urgent make() that `uuid` was part of. Not to be repeated by whoever gets an error: it
// is done. An instance whose every write is to be proven is not served before this one is.
Result<void> SqliteVault::known_to_chip(const Uuid& uuid, std::string_view what) {
    if (unlocked_->epochs->writes() == 0)
        return {};
    if (unlocked_->instances->find(uuid)->facts.sync)
        unlocked_->unproven.insert(uuid);
    return fail(
        late_commit_ ? late_commit_->code : Errc::unavailable, NextAction::retry_later,
        std::string(what) +
            ", and that is on the disk; but the chip has not taken it yet, so that an older "
            "disk would undo it unnoticed. It is told again until it does: see vtpmctl "
            "status" +
            (late_commit_ ? ": " + late_commit_->context : std::string()));
}

// A snapshot that does not verify is a matter of its own: the instance is as good as it was.
Result<SecretBytes> SqliteVault::read_snapshot(const InstanceRow& row,
                                               const KeptSnapshot& snapshot) {
    const auto damaged = [&](std::string_view how) {
        return fail(Errc::corrupt, "snapshot " + snapshot.name + " of instance " + row.facts.name +
                                       " does not verify (" + std::string(how) +
                                       "); nothing was changed. To go on without it: vtpmctl "
                                       "delete-snapshot " +
                                       row.facts.name + " " + snapshot.name + " --yes");
    };
    VTPM_TRY(const SecretBytes key, unlocked_->instance_key(row));
    const auto record = unlocked_->snapshots->get(row.id, snapshot.place);
    if (!record && record.error().code == Errc::corrupt)
        return damaged(record.error().context);
    VTPM_CHECK(record);
    if (!*record)
        return damaged("it is missing");
    if (!equal_constant_time(digest_of(BlobKind::snapshot, **record), snapshot.digest))
        return damaged("it was changed, or is another one");
    auto content =
        open_record(key, label_of(disk_->record.manager, row, **record), (*record)->content);
    if (!content)
        return damaged(content.error().context);
    return content;
}

Result<Instance> SqliteVault::take_snapshot(const Uuid& uuid, std::string_view name) {
    VTPM_TRY(const LoadedState state, load(uuid));
    Unlocked& open = *unlocked_;
    InstanceRow row = *open.instances->find(uuid);
    VTPM_CHECK(check_new_snapshot(row, name));
    VTPM_TRY(const SecretBytes* const permanent, permanent_state(state, row));
    VTPM_CHECK(check_room(*open.instances, permanent->size()));
    VTPM_TRY(const SecretBytes key, open.instance_key(row));
    KeptSnapshot snapshot;
    snapshot.name = name;
    snapshot.made = unix_seconds();
    snapshot.sequence = row.facts.sequence;
    snapshot.place = free_place(row);
    VTPM_TRY(auto record, seal(key, disk_->record.manager, open.instances->position().anchor, row,
                               *permanent, snapshot));
    auto snapshots = row.snapshots;
    snapshots.push_back(snapshot);
    keep_snapshots(row, std::move(snapshots));
    Instance kept = row.facts;
    Change change{.action = "snapshot",
                  .subject = subject_of(kept.name, uuid) + ": " + snapshot.name + ", at write " +
                             std::to_string(snapshot.sequence)};
    RecordWriter write = [&open, id = row.id, place = snapshot.place, record = std::move(record)] {
        return open.snapshots->put(id, place, record);
    };
    change.rows.push_back({std::move(row), std::move(write)});
    VTPM_CHECK(make(std::move(change), false));
    return kept;
}

Result<std::vector<Snapshot>> SqliteVault::snapshots(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow row, open->with_snapshots(uuid));
    return std::vector<Snapshot>(row.snapshots.begin(), row.snapshots.end());
}

Result<Instance> SqliteVault::remove_snapshot(const Uuid& uuid, std::string_view name) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->served(uuid));
    VTPM_TRY(const KeptSnapshot* const found, find_snapshot(*old, name));
    const std::uint8_t place = found->place;
    InstanceRow row = *old;
    auto snapshots = row.snapshots;
    std::erase_if(snapshots, [&](const auto& snapshot) { return snapshot.place == place; });
    keep_snapshots(row, std::move(snapshots));
    Instance left = row.facts;
    Change change{.action = "snapshot-delete",
                  .subject = subject_of(left.name, uuid) + ": " + std::string(name)};
    RecordWriter erase = [open, id = row.id, place] { return open->snapshots->erase(id, place); };
    change.rows.push_back({std::move(row), std::move(erase)});
    VTPM_CHECK(make(std::move(change), true));
    erase_log();
    VTPM_CHECK(known_to_chip(uuid, "snapshot " + std::string(name) + " is deleted"));
    return left;
}

Result<Instance> SqliteVault::revert(const Uuid& uuid, std::string_view name) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(InstanceRow row, open->with_snapshots(uuid));
    if (row.exported())
        return tl::make_unexpected(exported_away(row));
    VTPM_CHECK(prove(uuid));  // a write that was never acknowledged must not come after this
    VTPM_TRY(const KeptSnapshot* const snapshot, find_snapshot(row, name));
    VTPM_TRY(const SecretBytes permanent, read_snapshot(row, *snapshot));
    VTPM_TRY(const SecretBytes key, open->instance_key(row));
    const std::uint64_t then = snapshot->sequence;
    const std::uint64_t before = row.facts.sequence;
    VTPM_TRY(RecordWriter write,
             open->next_store(disk_->record.manager, key, nothing_but(permanent), row));
    ++row.facts.reverts;
    Instance reverted = row.facts;
    Change change{.action = "revert",
                  .subject = subject_of(reverted.name, uuid) + " to " + std::string(name) +
                             ": from write " + std::to_string(before) + " back to what it was at " +
                             std::to_string(then) + ", revert number " +
                             std::to_string(reverted.reverts)};
    change.rows.push_back({std::move(row), std::move(write)});
    VTPM_CHECK(make(std::move(change), true));
    VTPM_CHECK(known_to_chip(uuid, "instance " + reverted.name + " is reverted"));
    return reverted;
}

Result<Instance> SqliteVault::clone(const Uuid& uuid, const CloneWish& wish) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(InstanceRow source, open->with_snapshots(uuid));
    if (source.exported())
        return tl::make_unexpected(exported_away(source));
    const std::string what_is_wrong = open->instances->find(uuid)->what_is_wrong;
    SecretBytes permanent;
    if (wish.snapshot.empty()) {
        VTPM_TRY(const LoadedState state, load(uuid));
        VTPM_TRY(const SecretBytes* const now, permanent_state(state, source));
        permanent = now->clone();
    } else {
        VTPM_TRY(const KeptSnapshot* const snapshot, find_snapshot(source, wish.snapshot));
        VTPM_TRY(permanent, read_snapshot(source, *snapshot));
    }
    VTPM_TRY(auto fresh, new_row({wish.name, source.facts.tpm, wish.uuid, source.facts.group,
                                  source.facts.sync}));
    auto& [row, key] = fresh;
    row.facts.policy = source.facts.policy;
    row.facts.origin = uuid;
    std::vector<BlobChange> state;
    state.push_back({BlobKind::permanent, std::move(permanent)});
    VTPM_TRY(RecordWriter write, open->first_store(disk_->record.manager, key, state, row));
    row.last_store.reset();  // nobody's store(), and so nobody's to repeat
    ++source.facts.clones;
    Instance made = row.facts;
    Change change{.action = "clone",
                  .subject = subject_of(made.name, made.uuid) + " of " +
                             subject_of(source.facts.name, uuid) +
                             (wish.snapshot.empty() ? "" : ", snapshot " + wish.snapshot)};
    change.rows.push_back({std::move(source)});
    change.rows.push_back({std::move(row), std::move(write)});
    VTPM_CHECK(make(std::move(change), true));
    if (!what_is_wrong.empty())  // and that is no better now
        open->instances->quarantine(uuid, what_is_wrong);
    VTPM_CHECK(known_to_chip(made.uuid, "clone " + made.name + " is made"));
    return made;
}

// All that are kept, under a new key of the instance, which `row` has.
Result<RecordWriter> SqliteVault::rotate_snapshots(const InstanceRow& old, const SecretBytes& key,
                                                   InstanceRow& row) {
    Unlocked& open = *unlocked_;
    std::vector<std::pair<std::uint8_t, StoredRecord>> records;
    auto snapshots = row.snapshots;
    std::string damaged;
    for (auto& snapshot : snapshots) {
        const auto content = read_snapshot(old, snapshot);
        if (!content && content.error().code == Errc::corrupt) {  // whoever deletes wants all names
            damaged += (damaged.empty() ? "" : ". And ") + content.error().context;
            continue;
        }
        if (!content)
            return tl::make_unexpected(content.error());
        VTPM_TRY(auto record, seal(key, disk_->record.manager, open.instances->position().anchor,
                                   row, *content, snapshot));
        records.emplace_back(snapshot.place, std::move(record));
    }
    if (!damaged.empty())
        return fail(Errc::corrupt, damaged);
    keep_snapshots(row, std::move(snapshots));
    return RecordWriter([&open, id = row.id, records = std::move(records)]() -> Result<void> {
        for (const auto& [place, record] : records)
            VTPM_CHECK(open.snapshots->put(id, place, record));
        return {};
    });
}

}  // namespace vtpm::vault
