#include "instance_table.h"

#include <string>

namespace vtpm::vault {
namespace {

constexpr std::int64_t max_id = std::int64_t{1} << 40U;

}  // namespace

Result<InstanceTable> InstanceTable::read(Database& database, const TableKeys& keys,
                                          const Uuid& manager) {
    InstanceTable table(database, keys, manager);
    VTPM_CHECK(table.prepare());
    VTPM_CHECK(table.read_rows());
    VTPM_TRY(Statement query, database.prepare("SELECT mac FROM total WHERE id = 1"));
    VTPM_CHECK(query.start());
    VTPM_TRY(const bool row, query.next());
    const auto stored = row ? query.blob(0) : std::nullopt;
    const bool whole =
        stored && equal_constant_time(*stored, table.total_of(table.sum_, table.counted_));
    // With a damaged row the sum cannot come out; the other rows have verified by themselves.
    if (!whole && !table.in_doubt()) {
        return fail(Errc::corrupt,
                    "the table of instances does not verify: a row is missing, or was put back "
                    "from an older copy");
    }
    return table;
}

Hash InstanceTable::empty_total(const TableKeys& keys, const Uuid& manager) {
    return hmac_sha256(keys.total.view(), ByteWriter()
                                              .sized(as_bytes("xen-vtpm total"))
                                              .bytes(manager.bytes())
                                              .u64(0)
                                              .bytes(Hash{})
                                              .take());
}

Result<void> InstanceTable::prepare() {
    // Not REPLACE: that deletes the old row, which records refer to.
    VTPM_TRY(put_, database_->prepare(
                       "INSERT INTO instances(" + std::string(instance_columns) +
                       ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT(id) DO UPDATE SET group_id = excluded.group_id,"
                       " uuid = excluded.uuid, name = excluded.name, tpm = excluded.tpm,"
                       " group_uuid = excluded.group_uuid, state = excluded.state,"
                       " generation = excluded.generation, sequence = excluded.sequence,"
                       " created = excluded.created, committed = excluded.committed,"
                       " bytes_1 = excluded.bytes_1, bytes_2 = excluded.bytes_2,"
                       " bytes_3 = excluded.bytes_3, wrapped_key = excluded.wrapped_key,"
                       " last_store = excluded.last_store, digest_1 = excluded.digest_1,"
                       " digest_2 = excluded.digest_2, digest_3 = excluded.digest_3,"
                       " mac = excluded.mac"));
    VTPM_TRY(erase_records_, database_->prepare("DELETE FROM records WHERE instance_id = ?"));
    VTPM_TRY(erase_, database_->prepare("DELETE FROM instances WHERE id = ?"));
    VTPM_TRY(put_total_, database_->prepare("UPDATE total SET mac = ? WHERE id = 1"));
    return {};
}

Result<void> InstanceTable::read_rows() {
    VTPM_TRY(Statement query, database_->prepare("SELECT " + std::string(instance_columns) +
                                                 " FROM instances ORDER BY id"));
    VTPM_CHECK(query.start());
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return {};
        InstanceRow row = read_row(query, manager_, keys_->meta);
        if (row.sound)
            add(row);
        // Two rows for one instance: neither is believed.
        if (const auto twin = rows_.find(row.facts.uuid); twin != rows_.end()) {
            for (InstanceRow* const one : {&row, &twin->second}) {
                if (one->sound)
                    take_out(*one);
                one->sound = false;
                unsound_.emplace(one->facts.uuid, one->id);
            }
            if (row.id < max_id)
                last_id_ = std::max(last_id_, row.id);
            quarantine(row.facts.uuid, "vault.db has two rows for it");
            continue;
        }
        if (!row.sound)
            unsound_.emplace(row.facts.uuid, row.id);
        keep(std::move(row));
    }
}

void InstanceTable::keep(InstanceRow row) {
    if (const auto old = rows_.find(row.facts.uuid); old != rows_.end()) {
        const auto named = names_.find(old->second.facts.name);
        if (named != names_.end() && named->second == row.facts.uuid)
            names_.erase(named);
    }
    if (!row.deleted())
        names_.try_emplace(row.facts.name, row.facts.uuid);
    // A damaged row may have any id; one that we would never reach is no reason to jump there.
    if (row.id < max_id)
        last_id_ = std::max(last_id_, row.id);
    rows_.insert_or_assign(row.facts.uuid, std::move(row));
}

const InstanceRow* InstanceTable::find(const Uuid& uuid) const {
    const auto found = rows_.find(uuid);
    return found == rows_.end() ? nullptr : &found->second;
}

const InstanceRow* InstanceTable::find_name(std::string_view name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? nullptr : find(found->second);
}

std::vector<const InstanceRow*> InstanceTable::all() const {
    std::vector<const InstanceRow*> out;
    out.reserve(rows_.size());
    for (const auto& [uuid, row] : rows_) {
        if (!row.deleted())
            out.push_back(&row);
    }
    return out;
}

Hash InstanceTable::total_of(const Hash& sum, std::uint64_t count) const {
    return hmac_sha256(keys_->total.view(), ByteWriter()
                                                .sized(as_bytes("xen-vtpm total"))
                                                .bytes(manager_.bytes())
                                                .u64(count)
                                                .bytes(sum)
                                                .take());
}

// Adding and taking out are the same act.
void InstanceTable::toggle(Hash& sum, const Hash& mac) const {
    const Hash part = hmac_sha256(keys_->sum.view(), mac);
    for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] ^= part[i];
}

void InstanceTable::add(const InstanceRow& row) {
    toggle(sum_, row.mac);
    ++counted_;
}

void InstanceTable::take_out(const InstanceRow& row) {
    toggle(sum_, row.mac);
    --counted_;
}

Result<void> InstanceTable::commit(InstanceRow row, const std::function<Result<void>()>& also) {
    row.mac = mac_of(row, manager_, keys_->meta);
    Hash sum = sum_;
    std::uint64_t counted = counted_;
    const InstanceRow* const old = find(row.facts.uuid);
    if (old != nullptr && old->sound) {
        toggle(sum, old->mac);
        --counted;
    }
    toggle(sum, row.mac);
    ++counted;

    VTPM_TRY(Transaction transaction, Transaction::begin(*database_));
    VTPM_CHECK(write(row));
    const auto [first, last] = unsound_.equal_range(row.facts.uuid);
    for (auto twin = first; twin != last; ++twin) {
        if (twin->second == row.id)
            continue;
        VTPM_CHECK(erase_records_->run(twin->second));
        VTPM_CHECK(erase_->run(twin->second));
    }
    if (also)
        VTPM_CHECK(also());
    VTPM_CHECK(put_total_->run(ByteView(total_of(sum, counted))));
    VTPM_CHECK(transaction.commit());

    sum_ = sum;
    counted_ = counted;
    unsound_.erase(row.facts.uuid);
    keep(std::move(row));
    return {};
}

Result<void> InstanceTable::write(const InstanceRow& row) {
    const auto& facts = row.facts;
    // SQLite's null pointer is NULL, which is how "none" is stored.
    const auto or_null = [](const std::optional<Hash>& hash) {
        return hash ? std::optional<ByteView>(*hash) : std::nullopt;
    };
    const auto key =
        row.wrapped_key.empty() ? std::nullopt : std::optional<ByteView>(row.wrapped_key);
    return put_->run(
        row.id, row.group_id, facts.uuid.bytes(), std::string_view(facts.name),
        std::int64_t{facts.tpm}, facts.group.bytes(), static_cast<std::int64_t>(facts.state),
        std::int64_t{facts.generation}, static_cast<std::int64_t>(facts.sequence), facts.created,
        facts.committed, static_cast<std::int64_t>(row.sizes[0]),
        static_cast<std::int64_t>(row.sizes[1]), static_cast<std::int64_t>(row.sizes[2]), key,
        or_null(row.last_store), or_null(row.digests[0]), or_null(row.digests[1]),
        or_null(row.digests[2]), ByteView(row.mac));
}

void InstanceTable::quarantine(const Uuid& uuid, std::string_view why) {
    const auto found = rows_.find(uuid);
    if (found == rows_.end())
        return;
    if (!found->second.quarantined())
        found->second.what_is_wrong = why;
    found->second.facts.state = InstanceState::quarantined;
}

}  // namespace vtpm::vault
