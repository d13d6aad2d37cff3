// What a SqliteVault holds in its two stages; see sqlite_vault.h. Private to the vault room.
#pragma once

#include "epochs.h"
#include "instance_table.h"
#include "key_schedule.h"
#include "key_wrap.h"
#include "record_table.h"
#include "vault_record.h"
#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::vault {

struct SqliteVault::Disk {
    std::unique_ptr<Database> database;
    VaultRecord record;  // verified once unlocked
};

// Writes the records of a store; for the transaction that writes its row.
using RecordWriter = std::function<Result<void>()>;

struct SqliteVault::Unlocked {
    TableKeys keys;
    std::optional<Epochs> epochs;
    GroupRecord group;  // the default one, so far the only one
    SecretBytes group_key;
    std::optional<InstanceTable> instances;
    std::optional<RecordTable> records;

    // Of an instance that may be used. Errc::not_found, or Errc::corrupt for one in quarantine.
    Result<const InstanceRow*> usable(const Uuid& uuid) const;

    // K_inst. Errc::corrupt if it does not unwrap.
    Result<SecretBytes> instance_key(const InstanceRow& row) const {
        return unwrap_key(group_key, row.wrapped_key);
    }

    // Turns the row of a new instance, with K_inst `key`, into what it is after its first store.
    Result<RecordWriter> first_store(const Uuid& manager, const SecretBytes& key,
                                     const SecretBytes& permanent, InstanceRow& row);
};

// Errc::chip if the chip's answer has not the size of a key.
Result<SecretBytes> unseal_key(chip::Chip& chip, const chip::SealedObject& sealed);

// Sealed and unsealed once more: a key that the chip will not give back must not become the only
// one.
Result<chip::SealedObject> seal_key(chip::Chip& chip, const SecretBytes& key);

// A new recovery key, and the vault's keys in escrow to it; opened once to see that it does.
struct Recovery {
    SecretBytes pem;
    Bytes escrow;
};
Result<Recovery> make_recovery(const Uuid& manager, const SecretBytes& root, const Uuid& group,
                               const SecretBytes& group_key);

// What belongs to the state of the vault beside the table of instances.
Hash surroundings_of(const VaultRecord& record, const GroupRecord& group);

std::int64_t unix_seconds();

}  // namespace vtpm::vault
