// VaultRecord and GroupRecord: the two rows that are read before any key is there, and verified by
// their MACs as soon as K_root is. Private to the vault room; plain values.
#pragma once

#include <cstdint>
#include <string>

#include "database.h"
#include "hash.h"
#include "vtpm/base/uuid.h"
#include "vtpm/chip/chip.h"

namespace vtpm::vault {

struct VaultRecord {
    Uuid manager;
    std::int64_t created = 0;
    chip::ChipIdentity chip;  // pinned at setup
    chip::SealedObject root;
    Uuid default_group;
    Bytes escrow;           // empty: there is no recovery key
    std::int64_t cell = 0;  // the NV index of the commit cell
    Bytes cell_auth;        // its authorization value under K_cell
    Hash mac{};
};

struct GroupRecord {
    std::int64_t id = 0;
    Uuid uuid;
    std::string name;
    std::int64_t generation = 1;
    std::int64_t config_sequence = 0;
    chip::SealedObject key;
    Hash key_check{};
    Hash mac{};
};

Hash mac_of(const VaultRecord& record, const SecretBytes& meta_key);
Hash mac_of(const GroupRecord& record, const Uuid& manager, const SecretBytes& meta_key);

// Errc::corrupt if there is not exactly one readable row; the MAC is the caller's to compare.
Result<VaultRecord> read_vault_record(Database& database);
Result<GroupRecord> read_group_record(Database& database, const Uuid& uuid);

// MAC included. The first replaces the row, the second adds one.
Result<void> write(Database& database, const VaultRecord& record);
Result<void> add(Database& database, const GroupRecord& record);
// Its sealed key and its MAC, in the row that is there.
Result<void> replace_key(Database& database, const GroupRecord& record);

}  // namespace vtpm::vault
