#include "record_table.h"

#include "columns.h"
#include "instance_row.h"

namespace vtpm::vault {

// In unsigned numbers: the id of a damaged row can be anything.
std::int64_t RecordTable::key_of(std::int64_t instance_id, std::uint8_t place) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(instance_id) * places_ + place);
}

Hash digest_of(BlobKind kind, const StoredRecord& record) {
    const Hash content = sha256(record.content);
    return sha256(ByteWriter()
                      .sized(as_bytes("xen-vtpm record row"))
                      .u8(static_cast<std::uint8_t>(kind))
                      .u32(record.generation)
                      .u64(record.sequence)
                      .bytes(record.anchor)
                      .bytes(content)
                      .take());
}

Result<RecordTable> RecordTable::records(Database& database) {
    return open(database, "records", 4);
}

Result<RecordTable> RecordTable::snapshots(Database& database) {
    return open(database, "snapshots", Vault::max_snapshots);
}

Result<RecordTable> RecordTable::open(Database& database, const std::string& table,
                                      std::uint8_t places) {
    VTPM_TRY(Statement get, database.prepare("SELECT generation, sequence, anchor, content FROM " +
                                             table + " WHERE id = ?"));
    VTPM_TRY(Statement put,
             database.prepare("INSERT INTO " + table +
                              "(id, instance_id, generation, sequence, anchor,"
                              " content) VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET"
                              " generation = excluded.generation, sequence = excluded.sequence,"
                              " anchor = excluded.anchor, content = excluded.content"));
    VTPM_TRY(Statement erase, database.prepare("DELETE FROM " + table + " WHERE id = ?"));
    VTPM_TRY(Statement erase_all,
             database.prepare("DELETE FROM " + table + " WHERE id BETWEEN ? AND ?"));
    return RecordTable(places, std::move(get), std::move(put), std::move(erase),
                       std::move(erase_all));
}

Result<std::optional<StoredRecord>> RecordTable::get(std::int64_t instance_id, std::uint8_t place) {
    VTPM_CHECK(get_.start(key_of(instance_id, place)));
    const auto row = get_.next();
    VTPM_CHECK(row);
    if (!*row) {
        get_.reset();
        return std::nullopt;
    }
    Columns columns(get_);
    StoredRecord record;
    record.generation = static_cast<std::uint32_t>(columns.integer_up_to(0xffffffff));
    record.sequence = static_cast<std::uint64_t>(columns.integer());
    record.anchor = columns.hash();
    record.content = columns.bytes();
    get_.reset();
    if (!columns.sound())
        return fail(Errc::corrupt, "a record is damaged");
    return record;
}

Result<void> RecordTable::put(std::int64_t instance_id, std::uint8_t place,
                              const StoredRecord& record) {
    return put_.run(key_of(instance_id, place), instance_id, std::int64_t{record.generation},
                    static_cast<std::int64_t>(record.sequence), ByteView(record.anchor),
                    ByteView(record.content));
}

Result<void> RecordTable::erase(std::int64_t instance_id, std::uint8_t place) {
    return erase_.run(key_of(instance_id, place));
}

Result<void> RecordTable::erase_all(std::int64_t instance_id) {
    return erase_all_.run(key_of(instance_id, 0),
                          key_of(instance_id, static_cast<std::uint8_t>(places_ - 1)));
}

}  // namespace vtpm::vault
