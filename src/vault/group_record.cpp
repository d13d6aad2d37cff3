#include "group_record.h"

#include "columns.h"
#include "format.h"

namespace vtpm::vault {
namespace {

constexpr std::string_view group_columns =
    "id, uuid, name, deleted, generation, config_sequence, sealed_public, sealed_private,"
    " key_check, approver, pcrs, escrow, mac";

GroupRecord read_group(const Statement& row, bool& sound) {
    Columns columns(row);
    GroupRecord record;
    record.id = columns.integer();
    record.uuid = columns.uuid();
    record.name = columns.text();
    record.deleted = columns.integer_up_to(1) == 1;
    record.generation = columns.integer();
    record.config_sequence = columns.integer();
    record.key.public_area = columns.optional_bytes();
    record.key.private_area = columns.optional_bytes();
    record.key_check = columns.hash();
    record.approver = columns.optional_bytes();
    record.pcrs = columns.optional_bytes();
    record.escrow = columns.optional_bytes();
    record.mac = columns.hash();
    sound = columns.sound();
    return record;
}

}  // namespace

chip::Binding binding_of(const VaultRecord& vault, const GroupRecord& group) {
    chip::Binding binding;
    binding.latch = vault.boot_latch();
    // Sealed anew, it is for the same boots.
    if (chip::is_tpm12(vault.chip))
        binding.boots = chip::boots_of(group.key).value_or(std::vector<chip::PcrValues>());
    if (group.approver.empty())
        return binding;
    const Hash reference = sha256(ByteWriter()
                                      .bytes(as_bytes("xen-vtpm approval 1"))
                                      .bytes(vault.manager.bytes())
                                      .bytes(group.uuid.bytes())
                                      .take());
    binding.approver = chip::Approver{group.approver, reference, vault.revocations()};
    return binding;
}

Hash mac_of(const GroupRecord& record, const Uuid& manager, const SecretBytes& meta_key) {
    const Bytes row = ByteWriter()
                          .sized(as_bytes("xen-vtpm group row"))
                          .u32(text_version)
                          .bytes(manager.bytes())
                          .u64(u64(record.id))
                          .bytes(record.uuid.bytes())
                          .sized(as_bytes(record.name))
                          .u8(record.deleted ? 1 : 0)
                          .u64(u64(record.generation))
                          .u64(u64(record.config_sequence))
                          .sized(record.key.public_area)
                          .sized(record.key.private_area)
                          .bytes(record.key_check)
                          .sized(record.approver)
                          .sized(record.pcrs)
                          .sized(record.escrow)
                          .take();
    return hmac_sha256(meta_key.view(), row);
}

Result<std::vector<GroupRecord>> read_group_records(Database& database) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT " + std::string(group_columns) + " FROM groups ORDER BY id"));
    VTPM_CHECK(query.start());
    std::vector<GroupRecord> records;
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return records;
        bool sound = false;
        records.push_back(read_group(query, sound));
        const auto same = [&](const GroupRecord& other) {
            return other.uuid == records.back().uuid;
        };
        if (!sound || std::count_if(records.begin(), records.end(), same) != 1)
            return fail(Errc::corrupt, "the row of a group is damaged");
    }
}

Result<void> write(Database& database, const GroupRecord& record) {
    // Not REPLACE: that deletes the old row, which instances refer to.
    VTPM_TRY(Statement statement,
             database.prepare(
                 "INSERT INTO groups(" + std::string(group_columns) +
                 ") VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                 " ON CONFLICT(id) DO UPDATE SET uuid = excluded.uuid, name = excluded.name,"
                 " deleted = excluded.deleted, generation = excluded.generation,"
                 " config_sequence = excluded.config_sequence,"
                 " sealed_public = excluded.sealed_public,"
                 " sealed_private = excluded.sealed_private, key_check = excluded.key_check,"
                 " approver = excluded.approver, pcrs = excluded.pcrs, escrow = excluded.escrow,"
                 " mac = excluded.mac"));
    return statement.run(record.id, record.uuid.bytes(), std::string_view(record.name),
                         std::int64_t{record.deleted ? 1 : 0}, record.generation,
                         record.config_sequence, ByteView(record.key.public_area),
                         ByteView(record.key.private_area), ByteView(record.key_check),
                         ByteView(record.approver), ByteView(record.pcrs), ByteView(record.escrow),
                         ByteView(record.mac));
}

}  // namespace vtpm::vault
