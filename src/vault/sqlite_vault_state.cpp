// SqliteVault's path of a guest's state: load, store, and the housekeeping after it.
#include <algorithm>

#include "record_cipher.h"
#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

// Should nobody call idle(), the log stops growing here: 64 MiB. The store that crosses it waits.
constexpr int max_log_pages = 16384;
// Beyond this idle() gives the disk space back.
constexpr int worth_truncating = 1024;

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

using Records = std::vector<std::pair<BlobKind, std::optional<StoredRecord>>>;

// Gives the new records, none for what is to be gone, and puts their traces into `row`.
Result<Records> seal_changes(const SecretBytes& key, const Uuid& manager, const Hash& anchor,
                             const std::vector<const BlobChange*>& changes, InstanceRow& row) {
    Records records;
    for (const auto* change : changes) {
        const std::size_t at = index_of(change->kind);
        row.facts.bytes -= row.sizes[at];
        row.sizes[at] = 0;
        row.digests[at].reset();
        if (!change->content) {
            records.emplace_back(change->kind, std::nullopt);
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
        records.emplace_back(change->kind, std::move(record));
    }
    return records;
}

RecordWriter writer_of(RecordTable& table, std::int64_t id, Records records) {
    return [&table, id, records = std::move(records)]() -> Result<void> {
        for (const auto& [kind, record] : records) {
            VTPM_CHECK(record ? table.put(id, kind, *record) : table.erase(id, kind));
        }
        return {};
    };
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
    VTPM_TRY(auto records, seal_changes(*key, disk_->record.manager,
                                        open->instances->position().anchor, ordered, row));
    const auto write_records = writer_of(*open->records, row.id, std::move(records));
    VTPM_CHECK(open->instances->commit(std::move(row), write_records));
    wrote(false);
    if (disk_->database->log_pages() > max_log_pages) {
        // The store is durable; a checkpoint that fails is tried again by the next one.
        (void)disk_->database->checkpoint(Database::Checkpoint::passive);
    }
    return current + 1;
}

Result<RecordWriter> SqliteVault::Unlocked::first_store(const Uuid& manager, const SecretBytes& key,
                                                        const SecretBytes& permanent,
                                                        InstanceRow& row) {
    const BlobChange change{BlobKind::permanent, permanent.clone()};
    const std::vector<const BlobChange*> changes = {&change};
    VTPM_CHECK(check_changes(changes, true));
    row.facts.sequence = 1;
    row.facts.committed = unix_seconds();
    row.last_store = store_hash(key, 0, changes);
    VTPM_TRY(auto sealed, seal_changes(key, manager, instances->position().anchor, changes, row));
    return writer_of(*records, row.id, std::move(sealed));
}

Result<void> SqliteVault::idle() {
    if (!unlocked_)
        return {};
    VTPM_CHECK(commit_due());
    if (!unlocked_)
        return {};
    Database& database = *disk_->database;
    if (erasing_ || database.log_pages() > worth_truncating) {
        VTPM_CHECK(database.checkpoint(Database::Checkpoint::truncate));
        erasing_ = false;
    } else if (database.log_pages() > 0) {
        VTPM_CHECK(database.checkpoint(Database::Checkpoint::passive));
    }
    return {};
}

}  // namespace vtpm::vault
