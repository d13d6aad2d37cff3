// SqliteVault::setup(): the first keys.
#include "format.h"
#include "key_bundle.h"
#include "new_index.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"
#include "vtpm/vault/escrow.h"

namespace vtpm::vault {
namespace {

Result<void> write_database(const std::filesystem::path& path, const VaultRecord& record,
                            const GroupRecord& group, const Journal::Line& line,
                            const Anchor& anchor, const SecretBytes& anchor_key,
                            const TableKeys& keys) {
    VTPM_TRY(const auto database, Database::open(path));
    // In SQLite's first mode, the rollback journal: the result is one file that can be renamed.
    VTPM_TRY(Transaction transaction, Transaction::begin(*database));
    VTPM_CHECK(create_tables(*database));
    VTPM_CHECK(write(*database, record));
    VTPM_CHECK(write(*database, group));
    VTPM_CHECK(Journal(*database, anchor_key, record.manager).write(line));
    VTPM_CHECK(write(*database, anchor));
    VTPM_CHECK(InstanceTable::write_total(*database, keys, record.manager, anchor.state,
                                          {name_of(anchor, record.manager), {}, 0}, line.mac));
    return transaction.commit();
}

}  // namespace

Result<SecretBytes> new_key(chip::Chip& chip, std::string_view purpose) {
    VTPM_TRY(const SecretBytes from_chip, chip.random(key_size));
    if (from_chip.size() != key_size) {
        return fail(Errc::chip, "the chip gave random bytes of the wrong size");
    }
    VTPM_TRY(const SecretBytes from_system, random_secret(key_size));
    return hkdf_sha256(from_chip.view(), from_system.view(), as_bytes(purpose), key_size);
}

// A file system that is not mounted looks like a host that was never set up. Its vault would be
// left behind, and guests would get new TPMs.
Result<void> SqliteVault::check_no_other_vault() {
    VTPM_TRY(const auto cells, chip_.cells());
    if (cells.empty())
        return {};
    return fail(Errc::not_set_up, "there is no vault in " + directory_.string() +
                                      ", but the host's TPM has the commit cell of one (NV index "
                                      "0x" +
                                      to_hex(ByteWriter().u32(cells.front()).written()) +
                                      "): is its file system mounted, its backup put back? If "
                                      "that vault is to be left behind: vtpmctl setup "
                                      "--beside-another");
}

Error SqliteVault::no_vault() const {
    if (reason_ && reason_->code == Errc::not_set_up)
        return *reason_;
    return {Errc::not_set_up, NextAction::ask_operator,
            "there is no vault in " + directory_.string() + "; to make one: vtpmctl setup"};
}

Result<Uuid> SqliteVault::setup(const SetupWishes& wishes) {
    if (!disk_)
        VTPM_CHECK(open_disk());
    if (disk_) {
        VTPM_CHECK(unlocked());
        if (wishes.recovery_public.empty()) {
            return fail(Errc::already_exists,
                        "the vault is set up (manager " + disk_->record.manager.to_string() + ")");
        }
        if (!wishes.approver.key.empty() || !wishes.latch) {
            return fail(Errc::already_exists,
                        "the vault is set up; who approves its boots is changed with vtpmctl "
                        "approver, and its latch not at all");
        }
        if (!disk_->record.recovery_point.empty()) {
            return fail(Errc::already_exists,
                        "the vault has a recovery key; if that one is lost, make another with "
                        "--replace-recovery-key");
        }
        return replace_recovery_key(wishes.recovery_public);
    }
    KeyBundle keys;
    VTPM_CHECK(lay_down(wishes, keys));
    // From here on there is a vault. What else goes wrong is in status().reason, and unlock() can
    // be repeated.
    if (auto opened = open_disk(); !opened) {
        reason_ = std::move(opened).error();
    } else {
        (void)unlock_with_keys(keys.text());  // no boot may be approved yet
    }
    return keys.manager;
}

Result<void> SqliteVault::lay_down(const SetupWishes& wishes, KeyBundle& keys) {
    VaultRecord record;
    record.manager = Uuid::random();
    record.created = unix_seconds();
    if (!wishes.recovery_public.empty()) {
        VTPM_TRY(record.recovery_point, recovery_public(wishes.recovery_public));
    }
    VTPM_CHECK(check_generation(chip_, wishes));
    // Trust on first use: nobody has told us which chip to expect.
    VTPM_TRY(record.chip, chip_.identify());
    VTPM_CHECK(chip_.expect(record.chip));
    GroupRecord group;
    group.id = 1;
    group.uuid = Uuid::random();
    group.name = "default";
    chip::PcrValues this_boot;
    if (wishes.legacy_tpm12) {
        VTPM_TRY(this_boot, choose_boot(chip_, wishes.approver, group));
    } else {
        VTPM_CHECK(take_approver(chip_, wishes.approver, group));
    }
    record.default_group = group.uuid;

    VTPM_TRY(keys.root, new_key(chip_, "xen-vtpm K_root 1"));
    VTPM_TRY(SecretBytes group_key, new_key(chip_, "xen-vtpm K_grp 1"));
    group.key_check = group_key_check(group_key, keys.root);
    if (!record.recovery_point.empty()) {
        VTPM_TRY(record.escrow, make_escrow(record.recovery_point,
                                            {record.manager, record.manager, keys.root.clone()}));
        VTPM_TRY(group.escrow, make_escrow(record.recovery_point,
                                           {record.manager, group.uuid, group_key.clone()}));
    }
    VTPM_CHECK(clear_chip_of_setups(record));
    if (!wishes.beside_another)
        VTPM_CHECK(check_no_other_vault());
    const VaultDirectory files(directory_);
    VTPM_CHECK(files.prepare());
    VTPM_CHECK(files.begin(record.manager));
    const TableKeys table_keys = derive_table_keys(keys.root);
    VTPM_TRY(const SecretBytes anchor_key, random_secret(key_size));
    VTPM_TRY(record.anchor_key, wrap_key(table_keys.cell, anchor_key));
    VTPM_TRY(const SecretBytes cell_auth, random_secret(chip::Chip::cell_auth_size));
    VTPM_TRY(record.cell_auth, wrap_key(table_keys.cell, cell_auth));

    std::vector<NewIndex> made;
    const chip::CellTag tag = cell_tag(record.manager);
    VTPM_TRY(const auto cell, chip_.define_cell(cell_auth, tag));
    made.emplace_back(chip_, cell);
    record.cell = cell;
    if (!wishes.legacy_tpm12) {
        VTPM_TRY(const auto counter, chip_.define_counter(counter_tag(record.manager)));
        made.emplace_back(chip_, counter.index);
        record.counter = counter.index;
    }
    if (wishes.latch) {
        VTPM_TRY(const auto latch, chip_.define_latch(latch_tag(record.manager)));
        made.emplace_back(chip_, latch.index);
        record.latch = latch.index;
        record.latch_value = static_cast<std::int64_t>(latch.value);
    }
    const chip::Binding binding = binding_of(record, group);
    const auto seal = [&](const SecretBytes& key) {
        return wishes.legacy_tpm12 ? seal_for_this_boot(chip_, key, this_boot)
                                   : seal_key(chip_, key, binding);
    };
    VTPM_TRY(record.root, seal(keys.root));
    VTPM_TRY(group.key, seal(group_key));
    record.mac = mac_of(record, table_keys.meta);
    group.mac = mac_of(group, record.manager, table_keys.meta);

    Event event;
    event.at = record.created;
    event.actor = actor_.empty() ? "vtpmmgrd" : actor_;
    event.action = "setup";
    event.subject = "manager " + record.manager.to_string();
    const Journal::Line line = Journal::first(event, anchor_key, record.manager);
    const Hash state = InstanceTable::empty_state(table_keys, record.manager,
                                                  {surroundings_of(record, {group}, {}), line.mac});
    VTPM_TRY(const Anchor first,
             next_anchor(Anchor(), {}, state, unix_seconds(), record.manager, anchor_key));
    VTPM_CHECK(
        write_database(files.new_database(), record, group, line, first, anchor_key, table_keys));
    const Hash name = name_of(first, record.manager);
    VTPM_TRY(const auto value, chip_.extend_cell({cell, tag}, cell_auth, name));
    if (value != value_after({}, name))
        return fail(Errc::chip, "the chip's commit cell holds something else than was put in");
    for (auto& index : made)
        index.keep();  // publish() may fail when the vault is there already
    VTPM_CHECK(files.publish(record.manager));
    (void)files.end();  // or at the first start
    keys.manager = record.manager;
    keys.keys.emplace(group.uuid, std::move(group_key));
    return {};
}

}  // namespace vtpm::vault
