#include "vault_record.h"

#include "columns.h"
#include "format.h"

namespace vtpm::vault {
namespace {

constexpr auto u64 = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };

}  // namespace

Hash mac_of(const VaultRecord& record, const SecretBytes& meta_key) {
    const Bytes row = ByteWriter()
                          .sized(as_bytes("xen-vtpm vault row"))
                          .u32(format_version)
                          .bytes(record.manager.bytes())
                          .u64(u64(record.created))
                          .sized(record.chip.srk_public)
                          .sized(record.chip.srk_name)
                          .sized(as_bytes(record.chip.manufacturer))
                          .sized(as_bytes(record.chip.firmware))
                          .sized(record.root.public_area)
                          .sized(record.root.private_area)
                          .bytes(record.default_group.bytes())
                          .sized(record.escrow)
                          .u64(u64(record.cell))
                          .sized(record.cell_auth)
                          .take();
    return hmac_sha256(meta_key.view(), row);
}

Hash mac_of(const GroupRecord& record, const Uuid& manager, const SecretBytes& meta_key) {
    const Bytes row = ByteWriter()
                          .sized(as_bytes("xen-vtpm group row"))
                          .u32(format_version)
                          .bytes(manager.bytes())
                          .u64(u64(record.id))
                          .bytes(record.uuid.bytes())
                          .sized(as_bytes(record.name))
                          .u64(u64(record.generation))
                          .u64(u64(record.config_sequence))
                          .sized(record.key.public_area)
                          .sized(record.key.private_area)
                          .bytes(record.key_check)
                          .take();
    return hmac_sha256(meta_key.view(), row);
}

Result<VaultRecord> read_vault_record(Database& database) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT manager, created, chip_public, chip_name, chip_manufacturer,"
                              " chip_firmware, root_public, root_private, default_group, escrow,"
                              " cell_index, cell_auth, mac FROM vault"));
    VTPM_CHECK(query.start());
    VTPM_TRY(const bool row, query.next());
    if (!row)
        return fail(Errc::corrupt, "vault.db has lost the row of the vault itself");
    Columns columns(query);
    VaultRecord record;
    record.manager = columns.uuid();
    record.created = columns.integer();
    record.chip.srk_public = columns.bytes();
    record.chip.srk_name = columns.bytes();
    record.chip.manufacturer = columns.text();
    record.chip.firmware = columns.text();
    record.root.public_area = columns.bytes();
    record.root.private_area = columns.bytes();
    record.default_group = columns.uuid();
    record.escrow = columns.optional_bytes();
    record.cell = columns.integer_up_to(0xffffffff);
    record.cell_auth = columns.bytes();
    record.mac = columns.hash();
    if (!columns.sound())
        return fail(Errc::corrupt, "the row of the vault itself is damaged");
    VTPM_TRY(const bool second, query.next());
    if (second)
        return fail(Errc::corrupt, "vault.db has two rows for the vault itself");
    return record;
}

Result<GroupRecord> read_group_record(Database& database, const Uuid& uuid) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT id, uuid, name, generation, config_sequence, sealed_public,"
                              " sealed_private, key_check, mac FROM groups WHERE uuid = ?"));
    VTPM_CHECK(query.start(uuid.bytes()));
    VTPM_TRY(const bool row, query.next());
    if (!row)
        return fail(Errc::corrupt, "vault.db has lost the row of group " + uuid.to_string());
    Columns columns(query);
    GroupRecord record;
    record.id = columns.integer();
    record.uuid = columns.uuid();
    record.name = columns.text();
    record.generation = columns.integer();
    record.config_sequence = columns.integer();
    record.key.public_area = columns.bytes();
    record.key.private_area = columns.bytes();
    record.key_check = columns.hash();
    record.mac = columns.hash();
    VTPM_TRY(const bool second, query.next());
    if (!columns.sound() || second) {
        return fail(Errc::corrupt, "the row of group " + uuid.to_string() + " is damaged");
    }
    return record;
}

Result<void> write(Database& database, const VaultRecord& record) {
    VTPM_TRY(Statement statement,
             database.prepare("INSERT OR REPLACE INTO vault(id, manager, created, chip_public,"
                              " chip_name, chip_manufacturer, chip_firmware, root_public,"
                              " root_private, default_group, escrow, cell_index, cell_auth, mac)"
                              " VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    return statement.run(record.manager.bytes(), record.created, ByteView(record.chip.srk_public),
                         ByteView(record.chip.srk_name), std::string_view(record.chip.manufacturer),
                         std::string_view(record.chip.firmware), ByteView(record.root.public_area),
                         ByteView(record.root.private_area), record.default_group.bytes(),
                         ByteView(record.escrow), record.cell, ByteView(record.cell_auth),
                         ByteView(record.mac));
}

Result<void> add(Database& database, const GroupRecord& record) {
    VTPM_TRY(Statement statement,
             database.prepare("INSERT INTO groups(id, uuid, name, generation,"
                              " config_sequence, sealed_public, sealed_private, key_check, mac)"
                              " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    return statement.run(record.id, record.uuid.bytes(), std::string_view(record.name),
                         record.generation, record.config_sequence,
                         ByteView(record.key.public_area), ByteView(record.key.private_area),
                         ByteView(record.key_check), ByteView(record.mac));
}

Result<void> replace_key(Database& database, const GroupRecord& record) {
    VTPM_TRY(Statement statement, database.prepare("UPDATE groups SET sealed_public = ?,"
                                                   " sealed_private = ?, mac = ? WHERE id = ?"));
    return statement.run(ByteView(record.key.public_area), ByteView(record.key.private_area),
                         ByteView(record.mac), record.id);
}

}  // namespace vtpm::vault
