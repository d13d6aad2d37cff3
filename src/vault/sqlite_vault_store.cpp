// SqliteVault's path of a guest's state to the disk: store_all(), and a state under a new key.
#include <algorithm>

#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

// Should nobody call commit_due(), the log stops growing here: 64 MiB. The store that crosses it
// waits.
constexpr int max_log_pages = 16384;

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
        for (const auto& [kind, record] : records)
            VTPM_CHECK(record ? table.put(id, place_of(kind), *record)
                              : table.erase(id, place_of(kind)));
        return {};
    };
}

// The chip did not take the commit that an answer waits for.
Error unproven(const Error& why) {
    const bool for_good = why.code == Errc::rolled_back || why.code == Errc::wrong_cell;
    return {why.code, for_good ? why.next : NextAction::retry_later,
            "the write is on the disk, but the chip has not taken it yet: " + why.context};
}

}  // namespace

// Stores, each made from what the ones before leave behind, that are written together.
struct SqliteVault::Batch {
    Unlocked& open;
    const Uuid& manager;
    std::vector<Result<std::uint64_t>> answers = {};
    std::vector<InstanceTable::Change> changes = {};
    std::map<Uuid, std::size_t> newest = {};  // of an instance, in `changes`
    std::vector<std::size_t> waiting = {};    // answers that are right once the disk has it all
    std::vector<std::size_t> for_proof = {};  // answers that wait for the chip, too

    void add(const StoreRequest& request) { answers.push_back(make(request)); }
    void refuse(const std::vector<std::size_t>& which, const Error& error) {
        for (const std::size_t answer : which)
            answers[answer] = tl::make_unexpected(error);
    }

  private:
    Result<std::uint64_t> make(const StoreRequest& request);
    void put(InstanceRow row, Records records);
};

Result<std::uint64_t> SqliteVault::Batch::make(const StoreRequest& request) {
    VTPM_TRY(const InstanceRow* const on_disk, open.served(request.uuid));
    const auto before = newest.find(request.uuid);
    const bool alone = before == newest.end();
    InstanceRow row = alone ? *on_disk : changes[before->second].row;
    const std::uint64_t current = row.facts.sequence;
    const auto ordered = sorted(request.changes);
    VTPM_CHECK(check_changes(ordered, request.expected_sequence == 0));
    auto key = open.instance_key(row);
    if (!key && key.error().code == Errc::locked)
        return tl::make_unexpected(std::move(key).error());
    if (!key) {
        open.instances->quarantine(request.uuid, key.error().context);
        VTPM_CHECK(open.usable(request.uuid));
    }
    const Hash hash = store_hash(*key, request.expected_sequence, ordered);
    const bool again = current > 0 && request.expected_sequence == current - 1;
    const bool unanswered = alone && open.unproven.contains(request.uuid);
    if (again && row.last_store && equal_constant_time(*row.last_store, hash)) {
        if (!alone)
            waiting.push_back(answers.size());
        if (unanswered || (!alone && row.facts.sync))
            for_proof.push_back(answers.size());
        return current;
    }
    // Nobody was told of a store without its proof, so that it may be another one by now.
    // But a revert is nobody's store().
    if (request.expected_sequence != current && !(again && unanswered && row.last_store)) {
        return fail(Errc::out_of_order, "instance " + request.uuid.to_string() +
                                            " is at sequence " + std::to_string(current) +
                                            ", the store was made for " +
                                            std::to_string(request.expected_sequence));
    }
    row.facts.sequence = request.expected_sequence + 1;
    row.facts.committed = unix_seconds();
    row.last_store = hash;
    VTPM_TRY(auto records,
             seal_changes(*key, manager, open.instances->position().anchor, ordered, row));
    const std::uint64_t sequence = row.facts.sequence;
    put(std::move(row), std::move(records));
    return sequence;
}

void SqliteVault::Batch::put(InstanceRow row, Records records) {
    waiting.push_back(answers.size());
    if (row.facts.sync)
        for_proof.push_back(answers.size());
    newest[row.facts.uuid] = changes.size();
    RecordWriter write = writer_of(*open.records, row.id, std::move(records));
    changes.push_back({std::move(row), std::move(write)});
}

std::vector<Result<std::uint64_t>> SqliteVault::store_all(std::span<const StoreRequest> requests) {
    const auto open = unlocked();
    if (!open)
        return std::vector<Result<std::uint64_t>>(requests.size(),
                                                  tl::make_unexpected(open.error()));
    Batch batch{**open, disk_->record.manager};
    for (const StoreRequest& request : requests)
        batch.add(request);
    const std::size_t writes = batch.changes.size();
    if (writes > 0) {
        std::vector<Uuid> synced;
        for (const auto& change : batch.changes) {
            if (change.row.facts.sync)
                synced.push_back(change.row.facts.uuid);
        }
        if (const auto done = (*open)->instances->commit_all(std::move(batch.changes)); !done) {
            reason_ = Error{done.error().code, done.error().next,
                            "the last write did not reach the disk: " + done.error().context};
            batch.refuse(batch.waiting, done.error());
            return std::move(batch.answers);
        }
        reason_.reset();  // which was about an earlier write: the vault is open
        (*open)->unproven.insert(synced.begin(), synced.end());
        (*open)->epochs->wrote(unix_seconds(), !synced.empty(), writes);
    }
    if (!batch.for_proof.empty()) {
        if (const auto proven = commit_epoch(); !proven)
            batch.refuse(batch.for_proof, unproven(proven.error()));
    }
    if (disk_->database->log_pages() > max_log_pages) {
        // The stores are durable; a checkpoint that fails is tried again by the next one.
        (void)disk_->database->checkpoint();
    }
    return std::move(batch.answers);
}

// Before anybody sees the state of an instance whose every write is to be known to the chip.
Result<void> SqliteVault::prove(const Uuid& uuid) {
    if (!unlocked_->unproven.contains(uuid))
        return {};
    if (const auto proven = commit_epoch(); !proven)
        return tl::make_unexpected(unproven(proven.error()));
    return {};
}

Result<RecordWriter> SqliteVault::Unlocked::first_store(const Uuid& manager, const SecretBytes& key,
                                                        std::span<const BlobChange> state,
                                                        InstanceRow& row) {
    const auto ordered = sorted(state);
    VTPM_CHECK(check_changes(ordered, true));
    row.facts.sequence = 1;
    row.facts.committed = unix_seconds();
    row.last_store = store_hash(key, 0, ordered);
    VTPM_TRY(auto sealed, seal_changes(key, manager, instances->position().anchor, ordered, row));
    return writer_of(*records, row.id, std::move(sealed));
}

// As if by a store() to an instance that nobody uses: what was acknowledged before is over.
Result<RecordWriter> SqliteVault::Unlocked::next_store(const Uuid& manager, const SecretBytes& key,
                                                       std::span<const BlobChange> state,
                                                       InstanceRow& row) {
    const auto ordered = sorted(state);
    VTPM_CHECK(check_changes(ordered, false));
    ++row.facts.sequence;
    row.facts.committed = unix_seconds();
    row.last_store.reset();
    VTPM_TRY(auto sealed, seal_changes(key, manager, instances->position().anchor, ordered, row));
    return writer_of(*records, row.id, std::move(sealed));
}

Result<Instance> SqliteVault::rotate_instance(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const LoadedState state, load(uuid));
    InstanceRow row = *open->instances->find(uuid);
    VTPM_TRY(const SecretBytes* const group_key, open->group_key(row.group_id));
    VTPM_TRY(const SecretBytes key, random_secret(key_size));
    VTPM_TRY(row.wrapped_key, wrap_key(*group_key, key));
    ++row.facts.generation;
    row.last_store.reset();  // made with the old key
    std::vector<BlobChange> contents;
    for (const auto& [kind, content] : state.blobs)
        contents.push_back({kind, content.clone()});
    VTPM_TRY(auto records, seal_changes(key, disk_->record.manager,
                                        open->instances->position().anchor, sorted(contents), row));
    VTPM_TRY(RecordWriter write_snapshots,
             rotate_snapshots(*open->instances->find(uuid), key, row));
    Instance rotated = row.facts;
    Change change{.action = "rotate",
                  .subject = subject_of(rotated.name, uuid) + " to key generation " +
                             std::to_string(rotated.generation)};
    RecordWriter write = writer_of(*open->records, row.id, std::move(records));
    change.rows.push_back({std::move(row), std::move(write)});
    change.also = std::move(write_snapshots);
    VTPM_CHECK(make(std::move(change), true));
    erase_log();
    return rotated;
}

}  // namespace vtpm::vault
