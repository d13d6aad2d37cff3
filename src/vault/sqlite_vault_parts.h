// What a SqliteVault holds in its two stages; see sqlite_vault.h. Private to the vault room.
#pragma once

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

struct SqliteVault::Unlocked {
    TableKeys keys;
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
};

// Errc::chip if the chip's answer has not the size of a key.
Result<SecretBytes> unseal_key(chip::Chip& chip, const chip::SealedObject& sealed);

std::int64_t unix_seconds();

}  // namespace vtpm::vault
