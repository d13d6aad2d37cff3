// InstanceRow: all that the table says about one instance, and the MAC that binds it together.
//
// Private to the vault room; plain values.
#pragma once

#include <array>
#include <optional>

#include "columns.h"
#include "hash.h"
#include "past.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

inline constexpr std::array blob_kinds{BlobKind::permanent, BlobKind::volatile_state,
                                       BlobKind::saved};

inline std::size_t index_of(BlobKind kind) {
    return static_cast<std::size_t>(kind) - 1;
}

struct InstanceRow {
    std::int64_t id = 0;
    std::int64_t group_id = 0;
    Instance facts;
    Bytes wrapped_key;                           // K_inst under K_grp; empty once deleted
    std::optional<Hash> last_store;              // keyed hash of the last accepted store()
    std::array<std::optional<Hash>, 3> digests;  // of the records, by index_of(kind)
    std::array<std::uint64_t, 3> sizes{};        // of their plaintexts; facts.bytes is the sum
    std::vector<KeptSnapshot> snapshots;         // set by keep_snapshots()
    Bytes move;  // see transfer.h; empty if it has neither come from elsewhere nor gone there
    Hash mac{};

    Hash mac_as_read{};         // of the contents that were read; a sound row's mac
    bool sound = true;          // false: facts.uuid and facts.name are hearsay
    bool counted = true;        // `mac` is part of the table's sum; false: nobody knows this row
    std::string what_is_wrong;  // if it is in quarantine
    // Of a sound row whose records do not verify: facts.state is `quarantined`, but only here.
    std::optional<InstanceState> state_on_disk;

    bool deleted() const { return sound && facts.state == InstanceState::deleted; }
    bool exported() const { return sound && facts.state == InstanceState::exported; }
    bool quarantined() const { return !what_is_wrong.empty(); }
};

Hash mac_of(const InstanceRow& row, const Uuid& manager, const SecretBytes& meta_key);

// In the order of instance_columns; compares the MAC and the sense of the whole.
inline constexpr std::string_view instance_columns =
    "id, group_id, uuid, name, tpm, sync, group_uuid, state, generation, sequence, created, "
    "committed,"
    " bytes_1, bytes_2, bytes_3, wrapped_key, last_store, digest_1, digest_2, digest_3, move, "
    "policy, mac, past";
// Of a row that is not sound, `mac` is the stored one, or zero if that is not readable.
InstanceRow read_row(const Statement& row, const Uuid& manager, const SecretBytes& meta_key);

bool valid_name(std::string_view name);

}  // namespace vtpm::vault
