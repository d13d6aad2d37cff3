// SqliteVault's path of a guest's state to its engine, and the housekeeping.
#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

Result<LoadedState> load_verified(RecordTable& records, const InstanceRow& row,
                                  const SecretBytes& key, const Uuid& manager) {
    LoadedState state;
    state.sequence = row.facts.sequence;
    for (const BlobKind kind : blob_kinds) {
        VTPM_TRY(const auto record, records.get(row.id, place_of(kind)));
        const auto& digest = row.digests[index_of(kind)];
        if (record.has_value() != digest.has_value()) {
            return fail(Errc::corrupt,
                        record ? "it has a record too many" : "one of its records is missing");
        }
        if (!record)
            continue;
        if (!equal_constant_time(digest_of(kind, *record), *digest)) {
            return fail(Errc::corrupt, "one of its records is not the newest, or was changed");
        }
        VTPM_TRY(SecretBytes content,
                 open_record(key, label_of(manager, row, kind, *record), record->content));
        state.blobs.emplace_back(kind, std::move(content));
    }
    return state;
}

}  // namespace

Result<LoadedState> SqliteVault::load(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_CHECK(open->served(uuid));
    VTPM_CHECK(prove(uuid));
    return read_state(uuid);
}

// Of an instance that may have been exported.
Result<LoadedState> SqliteVault::read_state(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const row, open->usable(uuid));
    auto loaded = [&]() -> Result<LoadedState> {
        VTPM_TRY(const SecretBytes key, open->instance_key(*row));
        return load_verified(*open->records, *row, key, disk_->record.manager);
    }();
    if (!loaded && loaded.error().code == Errc::corrupt) {
        open->instances->quarantine(uuid, loaded.error().context);
        VTPM_CHECK(open->usable(uuid));
    }
    return loaded;
}

Result<void> SqliteVault::idle() {
    if (!unlocked_)
        return {};
    VTPM_CHECK(commit_due());
    if (!unlocked_)
        return {};
    if (leftovers_ && !renewing_ && unlocked_->epochs->writes() == 0 &&
        std::chrono::steady_clock::now() - leftovers_tried_ >= leftovers_pause_)
        (void)clear_chip();
    Database& database = *disk_->database;
    if (erasing_ || !log_is_ours_) {
        VTPM_CHECK(database.erase_log());
        erasing_ = false;
        log_is_ours_ = true;
    } else if (database.log_pages() > 0) {
        VTPM_CHECK(database.checkpoint());
    }
    return database.reserve_log();
}

}  // namespace vtpm::vault
