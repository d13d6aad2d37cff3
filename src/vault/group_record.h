// GroupRecord: the row of a group of instances, read before any key is there, and verified by its
// MAC as soon as K_root is. Private to the vault room; plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vault_record.h"

namespace vtpm::vault {

struct GroupRecord {
    std::int64_t id = 0;
    Uuid uuid;
    std::string name;
    bool deleted = false;
    std::int64_t generation = 1;       // of its key
    std::int64_t config_sequence = 0;  // changes of its approver so far
    chip::SealedObject key;            // empty once deleted
    Hash key_check{};
    Bytes approver;  // public key; empty: none
    Bytes pcrs;      // numbers that its approvals are about, in order
    Bytes escrow;    // of its key; empty: there is no recovery key
    Hash mac{};
};

// What has to hold when this group's key, or for the default group the root key, is unsealed.
chip::Binding binding_of(const VaultRecord& vault, const GroupRecord& group);

Hash mac_of(const GroupRecord& record, const Uuid& manager, const SecretBytes& meta_key);

// By id. Errc::corrupt if a row is not readable, or two are alike; MACs are the caller's to
// compare.
Result<std::vector<GroupRecord>> read_group_records(Database& database);

// MAC included; replaces the row of its id, or adds it.
Result<void> write(Database& database, const GroupRecord& record);

}  // namespace vtpm::vault
