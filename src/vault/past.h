// What an instance's row says of its past: reverts, clones, and the snapshots that are kept. In one
// column, which is NULL for an instance that has none of it. Private to the vault room; plain
// values.
#pragma once

#include "hash.h"
#include "vtpm/vault/instance.h"

namespace vtpm::vault {

struct InstanceRow;

struct KeptSnapshot : Snapshot {
    std::uint8_t place = 0;  // of its record, 0 to Vault::max_snapshots - 1
    Hash digest{};           // of its record
};

// The snapshots, by age, and what the facts say of them.
void keep_snapshots(InstanceRow& row, std::vector<KeptSnapshot> snapshots);

// Empty: there is none.
Bytes past_of(const InstanceRow& row);
// False if that is not what past_of() gave.
bool take_past(ByteView past, InstanceRow& row);

}  // namespace vtpm::vault
