// SqliteVault's path of a guest's state: load, store, and the housekeeping after it.
#include <algorithm>

#include "record_cipher.h"
#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

// Should nobody call commit_due(), the log stops growing here: 64 MiB. The store that crosses it
// waits.
constexpr int max_log_pages = 16384;

RecordLabel label_of(const Uuid& manager, const InstanceRow& row, BlobKind kind,
                     const StoredRecord& record) {
    return {manager,           row.facts.group, row.facts.uuid, kind,
            record.generation, record.sequence, record.anchor};
}

// By kind, so that the same changes in another order are the same store.
std::vector<const BlobChange*> sorted(std::span<const BlobChange> changes) {
    std::vector<const BlobChange*> out;
    for (const auto& change : changes)
        out.push_back(&change);
    std::sort(out.begin(), out.end(),
              [](const auto* a, const auto* b) { return a->kind < b->kind; });
    return out;
}

Result<void> check_changes(const std::vector<const BlobChange*>& changes, bool first_store) {
    if (changes.empty())
        return fail(Errc::invalid_argument, "a store of nothing");
    bool permanent = false;
    for (std::size_t i = 0; i < changes.size(); ++i) {
        const auto& change = *changes[i];
        if (std::find(blob_kinds.begin(), blob_kinds.end(), change.kind) == blob_kinds.end()) {
            return fail(Errc::invalid_argument, "a blob of unknown kind");
        }
        if (i > 0 && change.kind == changes[i - 1]->kind) {
            return fail(Errc::invalid_argument, "one kind of blob twice in a store");
        }
        if (change.content && change.content->empty()) {
            return fail(Errc::invalid_argument, "an empty blob is no state");
        }
        if (change.content && change.content->size() > Vault::max_blob_size) {
            return fail(Errc::too_large, "a blob of more than 512 KiB");
        }
        if (change.kind == BlobKind::permanent) {
            if (!change.content) {
                return fail(Errc::invalid_argument, "the permanent state cannot be deleted");
            }
            permanent = true;
        }
    }
    if (first_store && !permanent) {
        return fail(Errc::invalid_argument, "the first store must bring the permanent state");
    }
    return {};
}

// The same for the same store only, and telling nothing to who has no K_inst.
Hash store_hash(const SecretBytes& key, std::uint64_t expected_sequence,
                const std::vector<const BlobChange*>& changes) {
    const SecretBytes hash_key = derive_key(key, "xen-vtpm K_store 1");
    ByteWriter writer;
    writer.u64(expected_sequence);
    for (const auto* change : changes) {
        writer.u8(static_cast<std::uint8_t>(change->kind));
        writer.sized(change->content
                         ? ByteView(hmac_sha256(hash_key.view(), change->content->view()))
                         : ByteView());
    }
    return hmac_sha256(hash_key.view(), writer.written());
}

// Gives the new records, in the order of `changes`, and puts their traces into `row`.
Result<std::vector<std::optional<StoredRecord>>> seal_changes(
    const SecretBytes& key, const Uuid& manager, const Hash& anchor,
    const std::vector<const BlobChange*>& changes, InstanceRow& row) {
    std::vector<std::optional<StoredRecord>> records;
    for (const auto* change : changes) {
        const std::size_t at = index_of(change->kind);
        row.facts.bytes -= row.sizes[at];
        row.sizes[at] = 0;
        row.digests[at].reset();
        if (!change->content) {
            records.emplace_back();
            continue;
        }
        StoredRecord record;
        record.generation = row.facts.generation;
        record.sequence = row.facts.sequence;
        record.anchor = anchor;
        VTPM_TRY(record.content,
                 seal_record(key, label_of(manager, row, change->kind, record), *change->content));
        row.sizes[at] = change->content->size();
        row.facts.bytes += row.sizes[at];
        row.digests[at] = digest_of(change->kind, record);
        records.emplace_back(std::move(record));
    }
    return records;
}

Result<LoadedState> load_verified(RecordTable& records, const InstanceRow& row,
                                  const SecretBytes& key, const Uuid& manager) {
    LoadedState state;
    state.sequence = row.facts.sequence;
    for (const BlobKind kind : blob_kinds) {
        VTPM_TRY(const auto record, records.get(row.id, kind));
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

Result<std::uint64_t> SqliteVault::store(const Uuid& uuid, std::uint64_t expected_sequence,
                                         std::span<const BlobChange> changes) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->usable(uuid));
    const std::uint64_t current = old->facts.sequence;
    const auto ordered = sorted(changes);
    VTPM_CHECK(check_changes(ordered, expected_sequence == 0));
    auto key = open->instance_key(*old);
    if (!key) {
        open->instances->quarantine(uuid, key.error().context);
        VTPM_CHECK(open->usable(uuid));
    }
    const Hash hash = store_hash(*key, expected_sequence, ordered);
    if (expected_sequence != current) {
        const bool repeated = current > 0 && expected_sequence == current - 1 && old->last_store &&
                              equal_constant_time(*old->last_store, hash);
        if (repeated)
            return current;
        return fail(Errc::out_of_order, "instance " + uuid.to_string() + " is at sequence " +
                                            std::to_string(current) + ", the store was made for " +
                                            std::to_string(expected_sequence));
    }

    InstanceRow row = *old;
    row.facts.sequence = current + 1;
    row.facts.committed = unix_seconds();
    row.last_store = hash;
    VTPM_TRY(const auto records, seal_changes(*key, disk_->record.manager,
                                              open->instances->position().anchor, ordered, row));
    const std::int64_t id = row.id;
    const auto write_records = [&]() -> Result<void> {
        for (std::size_t i = 0; i < ordered.size(); ++i) {
            const BlobKind kind = ordered[i]->kind;
            auto done = records[i] ? open->records->put(id, kind, *records[i])
                                   : open->records->erase(id, kind);
            if (!done)
                return done;
        }
        return {};
    };
    VTPM_CHECK(open->instances->commit(std::move(row), write_records));
    wrote(false);
    if (disk_->database->log_pages() > max_log_pages) {
        // The store is durable; a checkpoint that fails is tried again by the next one.
        (void)disk_->database->checkpoint();
    }
    return current + 1;
}

Result<void> SqliteVault::idle() {
    if (!unlocked_)
        return {};
    VTPM_CHECK(commit_due());
    if (!unlocked_)
        return {};
    Database& database = *disk_->database;
    if (erasing_) {
        VTPM_CHECK(database.erase_log());
        erasing_ = false;
    } else if (database.log_pages() > 0) {
        VTPM_CHECK(database.checkpoint());
    }
    return database.reserve_log();
}

}  // namespace vtpm::vault
