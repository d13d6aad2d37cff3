#include "instance_table.h"

#include <string>
#include <utility>

#include "format.h"

namespace vtpm::vault {
namespace {

constexpr std::int64_t max_id = std::int64_t{1} << 40U;
constexpr std::string_view put_total =
    "INSERT OR REPLACE INTO total(id, anchor, pending, writes, journal, mac)"
    " VALUES(1, ?, ?, ?, ?, ?)";

Bytes state_text(const Uuid& manager, const Beside& beside, std::uint64_t count, const Hash& sum) {
    return ByteWriter()
        .sized(as_bytes("xen-vtpm state"))
        .u32(text_version)
        .bytes(manager.bytes())
        .bytes(beside.surroundings)
        .bytes(beside.journal)
        .u64(count)
        .bytes(sum)
        .take();
}

Hash total_mac(const TableKeys& keys, const Uuid& manager, const Hash& state,
               const Position& position) {
    return hmac_sha256(keys.total.view(), ByteWriter()
                                              .sized(as_bytes("xen-vtpm total"))
                                              .bytes(manager.bytes())
                                              .bytes(state)
                                              .bytes(position.anchor)
                                              .bytes(position.pending)
                                              .u64(position.writes)
                                              .take());
}

}  // namespace

Result<InstanceTable> InstanceTable::read(Database& database, const TableKeys& keys,
                                          const Uuid& manager, const Hash& surroundings) {
    InstanceTable table(database, keys, manager, surroundings);
    VTPM_CHECK(table.prepare());
    VTPM_TRY(auto rows, table.read_rows());
    Hash mac{};
    VTPM_CHECK(table.read_total(mac));
    std::vector<InstanceRow*> damaged;
    for (auto& row : rows) {
        if (!row.sound) {
            damaged.push_back(&row);
            continue;
        }
        table.toggle(table.sum_, row.mac);
        ++table.counted_;
    }
    if (damaged.size() > max_damaged || !table.complete_sum(damaged, 0, mac)) {
        return fail(Errc::corrupt,
                    "the table of instances does not verify: rows are missing or damaged, or were "
                    "put back from an older copy");
    }
    for (auto& row : rows)
        table.take_in(std::move(row));
    return table;
}

// What a damaged row adds to the sum is not known for certain: the MAC that is stored in it, the
// one that its contents should have, or nothing, if somebody has put it there. At most one of these
// gives the sum that we wrote.
bool InstanceTable::complete_sum(std::vector<InstanceRow*>& damaged, std::size_t from,
                                 const Hash& mac) {
    if (from == damaged.size())
        return equal_constant_time(total_mac(*keys_, manager_, state(), position_), mac);
    InstanceRow& row = *damaged[from];
    const Hash stored = row.mac;
    for (const Hash& candidate : {stored, row.mac_as_read}) {
        row.mac = candidate;
        toggle(sum_, candidate);
        ++counted_;
        if (complete_sum(damaged, from + 1, mac))
            return true;
        toggle(sum_, candidate);
        --counted_;
    }
    row.mac = stored;
    row.counted = false;
    if (complete_sum(damaged, from + 1, mac))
        return true;
    row.counted = true;
    return false;
}

Hash InstanceTable::empty_state(const TableKeys& keys, const Uuid& manager, const Beside& beside) {
    return hmac_sha256(keys.total.view(), state_text(manager, beside, 0, Hash{}));
}

Result<void> InstanceTable::write_total(Database& database, const TableKeys& keys,
                                        const Uuid& manager, const Hash& state,
                                        const Position& position, const Hash& journal) {
    VTPM_TRY(Statement put, database.prepare(std::string(put_total)));
    return put.run(ByteView(position.anchor), ByteView(position.pending),
                   static_cast<std::int64_t>(position.writes), ByteView(journal),
                   ByteView(total_mac(keys, manager, state, position)));
}

Result<void> InstanceTable::read_total(Hash& mac) {
    VTPM_TRY(Statement query, database_->prepare("SELECT anchor, pending, writes, journal, mac"
                                                 " FROM total WHERE id = 1"));
    VTPM_CHECK(query.start());
    VTPM_TRY(const bool row, query.next());
    if (row) {
        Columns columns(query);
        position_.anchor = columns.hash();
        position_.pending = columns.hash();
        position_.writes = static_cast<std::uint64_t>(columns.integer());
        beside_.journal = columns.hash();
        mac = columns.hash();
        if (columns.sound())
            return {};
    }
    return fail(Errc::corrupt, "vault.db has lost the MAC of its tables");
}

Result<void> InstanceTable::prepare() {
    // Not REPLACE: that deletes the old row, which records refer to.
    VTPM_TRY(put_,
             database_->prepare(
                 "INSERT INTO instances(" + std::string(instance_columns) +
                 ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                 " ON CONFLICT(id) DO UPDATE SET group_id = excluded.group_id,"
                 " uuid = excluded.uuid, name = excluded.name, tpm = excluded.tpm,"
                 " sync = excluded.sync,"
                 " group_uuid = excluded.group_uuid, state = excluded.state,"
                 " generation = excluded.generation, sequence = excluded.sequence,"
                 " created = excluded.created, committed = excluded.committed,"
                 " bytes_1 = excluded.bytes_1, bytes_2 = excluded.bytes_2,"
                 " bytes_3 = excluded.bytes_3, wrapped_key = excluded.wrapped_key,"
                 " last_store = excluded.last_store, digest_1 = excluded.digest_1,"
                 " digest_2 = excluded.digest_2, digest_3 = excluded.digest_3,"
                 " move = excluded.move, policy = excluded.policy, mac = excluded.mac,"
                 " past = excluded.past"));
    VTPM_TRY(erase_records_, database_->prepare("DELETE FROM records WHERE instance_id = ?"));
    VTPM_TRY(erase_snapshots_, database_->prepare("DELETE FROM snapshots WHERE instance_id = ?"));
    VTPM_TRY(erase_, database_->prepare("DELETE FROM instances WHERE id = ?"));
    VTPM_TRY(put_total_, database_->prepare(std::string(put_total)));
    return {};
}

Result<std::vector<InstanceRow>> InstanceTable::read_rows() {
    VTPM_TRY(Statement query, database_->prepare("SELECT " + std::string(instance_columns) +
                                                 " FROM instances ORDER BY id"));
    VTPM_CHECK(query.start());
    std::vector<InstanceRow> rows;
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return rows;
        rows.push_back(read_row(query, manager_, keys_->meta));
    }
}

void InstanceTable::take_in(InstanceRow row) {
    const auto remember = [&](const InstanceRow& damaged) {
        unsound_.emplace(
            damaged.facts.uuid,
            Damaged{damaged.id, damaged.counted ? std::optional(damaged.mac) : std::nullopt});
    };
    const auto twin = rows_.find(row.facts.uuid);
    if (twin == rows_.end()) {
        if (!row.sound)
            remember(row);
        return keep(std::move(row));
    }
    // Two rows for one instance: neither is believed.
    remember(row);
    if (twin->second.sound)
        remember(twin->second);
    twin->second.sound = false;
    if (row.id < max_id)
        last_id_ = std::max(last_id_, row.id);
    quarantine(row.facts.uuid, "vault.db has two rows for it");
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

std::vector<const InstanceRow*> InstanceTable::all_ever() const {
    std::vector<const InstanceRow*> out;
    out.reserve(rows_.size());
    for (const auto& [uuid, row] : rows_)
        out.push_back(&row);
    return out;
}

void InstanceTable::recount() {
    sum_ = {};
    for (const auto& [uuid, row] : rows_)
        toggle(sum_, row.mac);
}

Hash InstanceTable::state_of(const Hash& sum, std::uint64_t count, const Beside& beside) const {
    return hmac_sha256(keys_->total.view(), state_text(manager_, beside, count, sum));
}

// Adding and taking out are the same act.
void InstanceTable::toggle(Hash& sum, const Hash& mac) const {
    const Hash part = hmac_sha256(keys_->sum.view(), mac);
    for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] ^= part[i];
}

void InstanceTable::take_out(const Uuid& uuid, Hash& sum, std::uint64_t& counted) const {
    const auto one = [&](const Hash& mac) {
        toggle(sum, mac);
        --counted;
    };
    const InstanceRow* const old = find(uuid);
    if (old != nullptr && old->sound)
        one(old->mac);
    const auto [first, last] = unsound_.equal_range(uuid);
    for (auto damaged = first; damaged != last; ++damaged) {
        if (damaged->second.counted)
            one(*damaged->second.counted);
    }
}

Result<void> InstanceTable::commit_all(std::vector<Change> changes, const Beside& beside,
                                       const std::function<Result<void>()>& also) {
    Hash sum = sum_;
    std::uint64_t counted = counted_;
    std::map<Uuid, Hash> newest;  // of these changes: one instance may have several
    for (auto& [row, with_it] : changes) {
        row.mac = mac_of(row, manager_, keys_->meta);
        row.counted = true;
        const auto [before, first] = newest.try_emplace(row.facts.uuid, row.mac);
        if (first) {
            take_out(row.facts.uuid, sum, counted);
        } else {
            toggle(sum, std::exchange(before->second, row.mac));
            --counted;
        }
        toggle(sum, row.mac);
        ++counted;
    }

    VTPM_TRY(Transaction transaction, Transaction::begin(*database_));
    for (const Change& change : changes)
        VTPM_CHECK(write(change));
    if (also)
        VTPM_CHECK(also());
    const std::uint64_t writes = std::max<std::size_t>(changes.size(), 1);
    VTPM_CHECK(write_position(state_of(sum, counted, beside), beside, writes));
    VTPM_CHECK(transaction.commit());

    position_.writes += writes;
    beside_ = beside;
    sum_ = sum;
    counted_ = counted;
    for (auto& [row, with_it] : changes) {
        unsound_.erase(row.facts.uuid);
        keep(std::move(row));
    }
    return {};
}

Result<void> InstanceTable::write(const Change& change) {
    VTPM_CHECK(write(change.row));
    const auto [first, last] = unsound_.equal_range(change.row.facts.uuid);
    for (auto damaged = first; damaged != last; ++damaged) {
        if (damaged->second.id == change.row.id)
            continue;
        VTPM_CHECK(erase_records_->run(damaged->second.id));
        VTPM_CHECK(erase_snapshots_->run(damaged->second.id));
        VTPM_CHECK(erase_->run(damaged->second.id));
    }
    if (change.also)
        VTPM_CHECK(change.also());
    return {};
}

Result<void> InstanceTable::write_position(const Hash& state, const Beside& beside,
                                           std::uint64_t writes) {
    const Position next{position_.anchor, position_.pending, position_.writes + writes};
    return put_total_->run(ByteView(next.anchor), ByteView(next.pending),
                           static_cast<std::int64_t>(next.writes), ByteView(beside.journal),
                           ByteView(total_mac(*keys_, manager_, state, next)));
}

Result<void> InstanceTable::write(const InstanceRow& row) {
    const auto& facts = row.facts;
    // SQLite's null pointer is NULL, which is how "none" is stored.
    const auto or_null = [](const std::optional<Hash>& hash) {
        return hash ? std::optional<ByteView>(*hash) : std::nullopt;
    };
    const auto bytes_or_null = [](const Bytes& bytes) {
        return bytes.empty() ? std::nullopt : std::optional<ByteView>(bytes);
    };
    return put_->run(row.id, row.group_id, facts.uuid.bytes(), std::string_view(facts.name),
                     std::int64_t{facts.tpm}, std::int64_t{facts.sync ? 1 : 0}, facts.group.bytes(),
                     static_cast<std::int64_t>(facts.state), std::int64_t{facts.generation},
                     static_cast<std::int64_t>(facts.sequence), facts.created, facts.committed,
                     static_cast<std::int64_t>(row.sizes[0]),
                     static_cast<std::int64_t>(row.sizes[1]),
                     static_cast<std::int64_t>(row.sizes[2]), bytes_or_null(row.wrapped_key),
                     or_null(row.last_store), or_null(row.digests[0]), or_null(row.digests[1]),
                     or_null(row.digests[2]), bytes_or_null(row.move), bytes_or_null(facts.policy),
                     ByteView(row.mac), bytes_or_null(past_of(row)));
}

void InstanceTable::quarantine(const Uuid& uuid, std::string_view why) {
    const auto found = rows_.find(uuid);
    if (found == rows_.end())
        return;
    InstanceRow& row = found->second;
    if (!row.quarantined()) {
        row.what_is_wrong = why;
        row.state_on_disk = row.sound ? std::optional(row.facts.state) : std::nullopt;
    }
    row.facts.state = InstanceState::quarantined;
}

}  // namespace vtpm::vault
