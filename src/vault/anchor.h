// Anchor: what the vault was at one moment, in a form that the chip's commit cell can name.
//
//   h(A) = SHA-256 of all of A.   A is current iff SHA-256(A.previous | h(A)) is the cell's value.
//
// Nothing else is ever asked about which state is the newest: no time stamp, no number, no file's
// age (reference/sealing.md 2.2). Two anchors lie in the database, in slots 0 and 1; one of them is
// current, or will be when the chip has been extended. Private to the vault room; plain values.
#pragma once

#include <cstdint>
#include <optional>

#include "database.h"
#include "hash.h"
#include "vtpm/base/uuid.h"
#include "vtpm/chip/chip.h"

namespace vtpm::vault {

// How often the chip's NV memory may be written: it wears out. One token a commit.
struct TokenBucket {
    static constexpr std::int64_t capacity = 200;
    static constexpr std::int64_t seconds_a_token =
        3600;  // 24 a day: 100 000 in ten years and more

    std::int64_t tokens = capacity;
    std::int64_t counted_at = 0;  // unix seconds, at which `tokens` was right

    // Moves on to `now`. A clock that went back gives nothing and takes nothing.
    void refill(std::int64_t now);
    // For a commit, which is made even if there is none left.
    void take() { tokens = tokens > 0 ? tokens - 1 : 0; }
};

struct Anchor {
    std::int64_t slot = 0;
    std::uint64_t epoch = 0;
    chip::CellValue previous{};  // of the cell, before this one was committed
    Hash state{};                // of all rows, see InstanceTable::state()
    TokenBucket bucket;
    std::uint64_t chip_writes = 0;  // by this vault so far, this commit included
    std::uint64_t recoveries = 0;   // older states that an operator has accepted
    std::int64_t committed = 0;     // unix seconds
    Hash salt{};                    // random: an anchor that was never committed is not made again
    Hash mac{};
};

Hash mac_of(const Anchor& anchor, const Uuid& manager, const SecretBytes& anchor_key);
// h(A), MAC included.
Hash name_of(const Anchor& anchor, const Uuid& manager);
// What the cell holds once `anchor` is committed.
chip::CellValue value_after(const chip::CellValue& previous, const Hash& anchor_name);

// The one after `current`, for a cell that holds `value`; in the other slot. For the first one of a
// vault `current` is Anchor() and `value` zero.
Result<Anchor> next_anchor(const Anchor& current, const chip::CellValue& value, const Hash& state,
                           std::int64_t now, const Uuid& manager, const SecretBytes& anchor_key);

// Reads both slots and gives the anchor that `cell` names; none if neither verifies and fits.
Result<std::optional<Anchor>> find_anchor(Database& database, const Uuid& manager,
                                          const SecretBytes& anchor_key,
                                          const chip::CellValue& cell);

// Whichever of the two is sound and has the higher epoch, current or not; Anchor() if none is.
Result<Anchor> latest_anchor(Database& database, const Uuid& manager,
                             const SecretBytes& anchor_key);

// Replaces what is in its slot.
Result<void> write(Database& database, const Anchor& anchor);

}  // namespace vtpm::vault
