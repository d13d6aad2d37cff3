#include "vault_record.h"

#include "columns.h"
#include "format.h"

namespace vtpm::vault {
namespace {

constexpr std::int64_t max_index = 0xffffffff;
// What chips say of themselves is shorter.
constexpr std::size_t max_chip_text = 64;

chip::CellTag tag_of(std::string_view purpose, const Uuid& manager) {
    return sha256(ByteWriter().sized(as_bytes(purpose)).bytes(manager.bytes()).take());
}

}  // namespace

chip::CellTag cell_tag(const Uuid& manager) {
    return tag_of("xen-vtpm commit cell", manager);
}

chip::CellTag counter_tag(const Uuid& manager) {
    return tag_of("xen-vtpm revocation counter", manager);
}

chip::CellTag latch_tag(const Uuid& manager) {
    return tag_of("xen-vtpm boot latch", manager);
}

chip::Counter VaultRecord::revocations() const {
    return {static_cast<chip::CellIndex>(counter), counter_tag(manager)};
}

std::optional<chip::Latch> VaultRecord::boot_latch() const {
    if (latch == 0)
        return std::nullopt;
    return chip::Latch{static_cast<chip::CellIndex>(latch), latch_tag(manager), u64(latch_value)};
}

Hash mac_of(const VaultRecord& record, const SecretBytes& meta_key) {
    const Bytes row = ByteWriter()
                          .sized(as_bytes("xen-vtpm vault row"))
                          .u32(text_version)
                          .bytes(record.manager.bytes())
                          .u64(u64(record.created))
                          .sized(record.chip.srk_public)
                          .sized(record.chip.srk_name)
                          .sized(as_bytes(record.chip.manufacturer))
                          .sized(as_bytes(record.chip.firmware))
                          .sized(record.root.public_area)
                          .sized(record.root.private_area)
                          .bytes(record.default_group.bytes())
                          .sized(record.recovery_point)
                          .sized(record.escrow)
                          .u64(u64(record.cell))
                          .sized(record.cell_auth)
                          .sized(record.anchor_key)
                          .u64(u64(record.counter))
                          .u64(u64(record.latch))
                          .u64(u64(record.latch_value))
                          .take();
    return hmac_sha256(meta_key.view(), row);
}

Result<VaultRecord> read_vault_record(Database& database) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT manager, created, chip_public, chip_name, chip_manufacturer,"
                              " chip_firmware, root_public, root_private, default_group,"
                              " recovery_point, escrow, cell_index, cell_auth, anchor_key,"
                              " counter_index, latch_index, latch_value, mac FROM vault"));
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
    record.chip.manufacturer = columns.plain_text(max_chip_text);
    record.chip.firmware = columns.plain_text(max_chip_text);
    record.root.public_area = columns.bytes();
    record.root.private_area = columns.bytes();
    record.default_group = columns.uuid();
    record.recovery_point = columns.optional_bytes();
    record.escrow = columns.optional_bytes();
    record.cell = columns.integer_up_to(max_index);
    record.cell_auth = columns.bytes();
    record.anchor_key = columns.bytes();
    record.counter = columns.integer_up_to(max_index);
    record.latch = columns.integer_up_to(max_index);
    record.latch_value = columns.integer();
    record.mac = columns.hash();
    if (!columns.sound())
        return fail(Errc::corrupt, "the row of the vault itself is damaged");
    VTPM_TRY(const bool second, query.next());
    if (second)
        return fail(Errc::corrupt, "vault.db has two rows for the vault itself");
    return record;
}

Result<void> write(Database& database, const VaultRecord& record) {
    VTPM_TRY(Statement statement,
             database.prepare("INSERT OR REPLACE INTO vault(id, manager, created, chip_public,"
                              " chip_name, chip_manufacturer, chip_firmware, root_public,"
                              " root_private, default_group, recovery_point, escrow, cell_index,"
                              " cell_auth, anchor_key, counter_index, latch_index, latch_value,"
                              " mac) VALUES(1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                              " ?)"));
    return statement.run(record.manager.bytes(), record.created, ByteView(record.chip.srk_public),
                         ByteView(record.chip.srk_name), std::string_view(record.chip.manufacturer),
                         std::string_view(record.chip.firmware), ByteView(record.root.public_area),
                         ByteView(record.root.private_area), record.default_group.bytes(),
                         ByteView(record.recovery_point), ByteView(record.escrow), record.cell,
                         ByteView(record.cell_auth), ByteView(record.anchor_key), record.counter,
                         record.latch, record.latch_value, ByteView(record.mac));
}

}  // namespace vtpm::vault
