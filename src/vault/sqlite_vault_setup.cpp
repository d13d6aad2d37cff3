// SqliteVault::setup(): the first keys, and the recovery key.
#include "format.h"
#include "sqlite_vault_parts.h"
#include "vault_directory.h"
#include "vtpm/vault/escrow.h"

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

// A key that the chip will not give back must not become the only one.
Result<chip::SealedObject> seal_key(chip::Chip& chip, const SecretBytes& key) {
    VTPM_TRY(chip::SealedObject sealed, chip.seal(key));
    VTPM_TRY(const SecretBytes again, unseal_key(chip, sealed));
    if (!equal_constant_time(again.view(), key.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip unseals something else than it sealed");
    }
    return sealed;
}

struct Recovery {
    SecretBytes pem;
    Bytes escrow;
};

// Escrow that was not opened once is not escrow.
Result<Recovery> make_recovery(const EscrowedKeys& keys) {
    Recovery recovery;
    VTPM_TRY(recovery.pem, make_recovery_key());
    VTPM_TRY(const Bytes point, recovery_public(recovery.pem));
    VTPM_TRY(recovery.escrow, make_escrow(point, keys));
    VTPM_TRY(const EscrowedKeys opened, open_escrow(recovery.pem, recovery.escrow));
    bool same = opened.manager == keys.manager && opened.groups.size() == keys.groups.size() &&
                equal_constant_time(opened.root.view(), keys.root.view());
    for (std::size_t i = 0; same && i < keys.groups.size(); ++i) {
        same = opened.groups[i].first == keys.groups[i].first &&
               equal_constant_time(opened.groups[i].second.view(), keys.groups[i].second.view());
    }
    if (!same)
        return fail(Errc::unavailable, "the escrow does not give back what was put in");
    return recovery;
}

EscrowedKeys escrowed(const Uuid& manager, const SecretBytes& root, const Uuid& group,
                      const SecretBytes& group_key) {
    EscrowedKeys keys;
    keys.manager = manager;
    keys.root = root.clone();
    keys.groups.emplace_back(group, group_key.clone());
    return keys;
}

Result<void> write_database(const std::filesystem::path& path, const VaultRecord& record,
                            const GroupRecord& group, const Hash& total) {
    VTPM_TRY(const auto database, Database::open(path));
    // In SQLite's first mode, the rollback journal: the result is one file that can be renamed.
    VTPM_TRY(Transaction transaction, Transaction::begin(*database));
    VTPM_CHECK(create_tables(*database));
    VTPM_CHECK(write(*database, record));
    VTPM_CHECK(add(*database, group));
    {
        VTPM_TRY(Statement put, database->prepare("INSERT INTO total(id, mac) VALUES(1, ?)"));
        VTPM_CHECK(put.run(ByteView(total)));
    }
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
        VTPM_TRY(Recovery recovery,
                 make_recovery(escrowed(record.manager, root, group.uuid, group_key)));
        record.escrow = std::move(recovery.escrow);
        outcome.recovery_key_pem = std::move(recovery.pem);
    }
    const TableKeys keys = derive_table_keys(root);
    record.mac = mac_of(record, keys.meta);
    group.mac = mac_of(group, record.manager, keys.meta);

    const VaultDirectory files(directory_);
    VTPM_CHECK(files.prepare());
    VTPM_CHECK(write_database(files.new_database(), record, group,
                              InstanceTable::empty_total(keys, record.manager)));
    VTPM_CHECK(files.publish(record.manager));
    outcome.manager = record.manager;
    return {};
}

Result<SetupOutcome> SqliteVault::replace_recovery_key() {
    VTPM_CHECK(unlocked());
    VaultRecord record = disk_->record;
    SetupOutcome outcome;
    outcome.manager = record.manager;
    VTPM_CHECK(chip_.expect(record.chip));  // it may have been swapped since the vault was opened
    VTPM_TRY(const SecretBytes root, unseal_key(chip_, record.root));
    VTPM_TRY(Recovery recovery, make_recovery(escrowed(record.manager, root, unlocked_->group.uuid,
                                                       unlocked_->group_key)));
    record.escrow = std::move(recovery.escrow);
    record.mac = mac_of(record, unlocked_->keys.meta);
    // A chip that cheats here would put an escrow of the wrong root key on the disk.
    if (!equal_constant_time(derive_table_keys(root).meta.view(), unlocked_->keys.meta.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip gave another root key than when the vault was opened");
    }
    VTPM_TRY(Transaction transaction, Transaction::begin(*disk_->database));
    VTPM_CHECK(write(*disk_->database, record));
    VTPM_CHECK(transaction.commit());
    disk_->record = std::move(record);
    outcome.recovery_key_pem = std::move(recovery.pem);
    return outcome;
}

}  // namespace vtpm::vault
