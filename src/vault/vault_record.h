// VaultRecord: the row that is read before any key is there, and verified by its MAC as soon as
// K_root is. Private to the vault room; plain values.
#pragma once

#include <cstdint>

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
    Bytes recovery_point;      // of the recovery key; empty: there is none
    Bytes escrow;              // of the root key, to it
    std::int64_t cell = 0;     // the NV index of the commit cell
    Bytes cell_auth;           // its authorization value under K_cell
    Bytes anchor_key;          // K_anchor under K_wrap
    std::int64_t counter = 0;  // the NV index of the revocation counter
    std::int64_t latch = 0;    // that of the boot latch; 0: there is none
    std::int64_t latch_value = 0;
    Hash mac{};

    chip::Counter revocations() const;
    std::optional<chip::Latch> boot_latch() const;
};

// By which a manager's NV indices are told from others'.
chip::CellTag cell_tag(const Uuid& manager);
chip::CellTag counter_tag(const Uuid& manager);
chip::CellTag latch_tag(const Uuid& manager);

Hash mac_of(const VaultRecord& record, const SecretBytes& meta_key);

// Errc::corrupt if there is not exactly one readable row; the MAC is the caller's to compare.
Result<VaultRecord> read_vault_record(Database& database);

// MAC included; replaces the row.
Result<void> write(Database& database, const VaultRecord& record);

}  // namespace vtpm::vault
