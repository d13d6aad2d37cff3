// SqliteVault::setup(): the first keys.
#include "format.h"
#include "new_cell.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"

namespace vtpm::vault {
namespace {

// From two sources, neither of which alone needs to be good.
Result<SecretBytes> new_key(chip::Chip& chip, std::string_view purpose) {
    VTPM_TRY(const SecretBytes from_chip, chip.random(key_size));
    if (from_chip.size() != key_size) {
        return fail(Errc::chip, "the chip gave random bytes of the wrong size");
    }
    VTPM_TRY(const SecretBytes from_system, random_secret(key_size));
    return hkdf_sha256(from_chip.view(), from_system.view(), as_bytes(purpose), key_size);
}

Result<void> write_database(const std::filesystem::path& path, const VaultRecord& record,
                            const GroupRecord& group, const Anchor& anchor, const TableKeys& keys) {
    VTPM_TRY(const auto database, Database::open(path));
    // In SQLite's first mode, the rollback journal: the result is one file that can be renamed.
    VTPM_TRY(Transaction transaction, Transaction::begin(*database));
    VTPM_CHECK(create_tables(*database));
    VTPM_CHECK(write(*database, record));
    VTPM_CHECK(add(*database, group));
    VTPM_CHECK(write(*database, anchor));
    VTPM_CHECK(InstanceTable::write_total(*database, keys, record.manager, anchor.state,
                                          {name_of(anchor, record.manager), {}, 0}));
    return transaction.commit();
}

}  // namespace

Result<SetupOutcome> SqliteVault::setup(bool make_recovery_key) {
    if (!disk_)
        VTPM_CHECK(open_disk());
    if (disk_) {
        VTPM_CHECK(unlocked());
        if (!make_recovery_key) {
            return fail(Errc::already_exists,
                        "the vault is set up (manager " + disk_->record.manager.to_string() + ")");
        }
        if (!disk_->record.escrow.empty()) {
            return fail(Errc::already_exists,
                        "the vault has a recovery key; if that one is lost, make another with "
                        "--replace-recovery-key");
        }
        return replace_recovery_key();
    }
    SetupOutcome outcome;
    VTPM_CHECK(lay_down(make_recovery_key, outcome));
    // From here on the recovery key must reach the caller, whatever else goes wrong: it is in
    // status().reason, and unlock() can be repeated.
    if (auto opened = open_disk(); !opened) {
        reason_ = std::move(opened).error();
    } else {
        (void)unlock();
    }
    return outcome;
}

Result<void> SqliteVault::lay_down(bool make_recovery_key, SetupOutcome& outcome) {
    VaultRecord record;
    record.manager = Uuid::random();
    record.created = unix_seconds();
    // Trust on first use: nobody has told us which chip to expect.
    VTPM_TRY(record.chip, chip_.identify());
    VTPM_CHECK(chip_.expect(record.chip));

    VTPM_TRY(const SecretBytes root, new_key(chip_, "xen-vtpm K_root 1"));
    VTPM_TRY(const SecretBytes group_key, new_key(chip_, "xen-vtpm K_grp 1"));
    GroupRecord group;
    group.id = 1;
    group.uuid = Uuid::random();
    group.name = "default";
    group.key_check = group_key_check(group_key);
    VTPM_TRY(record.root, seal_key(chip_, root));
    VTPM_TRY(group.key, seal_key(chip_, group_key));
    record.default_group = group.uuid;
    if (make_recovery_key) {
        VTPM_TRY(Recovery recovery, make_recovery(record.manager, root, group.uuid, group_key));
        record.escrow = std::move(recovery.escrow);
        outcome.recovery_key_pem = std::move(recovery.pem);
    }
    const VaultDirectory files(directory_);
    VTPM_CHECK(files.prepare());
    const TableKeys keys = derive_table_keys(root);
    VTPM_TRY(SecretBytes cell_auth, random_secret(chip::Chip::cell_auth_size));
    VTPM_TRY(record.cell_auth, wrap_key(keys.cell, cell_auth));
    VTPM_TRY(NewCell cell, NewCell::define(chip_, cell_auth, cell_tag(record.manager)));
    record.cell = cell.index();
    record.mac = mac_of(record, keys.meta);
    group.mac = mac_of(group, record.manager, keys.meta);

    const Hash state =
        InstanceTable::empty_state(keys, record.manager, surroundings_of(record, group));
    VTPM_TRY(const Anchor first,
             next_anchor(Anchor(), {}, state, unix_seconds(), record.manager, keys.anchor));
    VTPM_CHECK(write_database(files.new_database(), record, group, first, keys));
    const Hash name = name_of(first, record.manager);
    VTPM_TRY(const auto value,
             chip_.extend_cell({cell.index(), cell_tag(record.manager)}, cell_auth, name));
    if (value != value_after({}, name))
        return fail(Errc::chip, "the chip's commit cell holds something else than was put in");
    cell.keep();  // publish() may fail when the vault is there already
    VTPM_CHECK(files.publish(record.manager));
    outcome.manager = record.manager;
    return {};
}

}  // namespace vtpm::vault
