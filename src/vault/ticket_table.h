// The tickets that were given out and not used: part of the state of the vault, so that an older
// copy of the disk, which still has a used one, is noticed. Private to the vault room.
#pragma once

#include <cstdint>
#include <vector>

#include "database.h"
#include "hash.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

struct OpenTicket {
    Hash nonce{};
    Uuid group;
    std::int64_t made = 0;  // unix seconds
};

// Errc::corrupt if a row is not readable; whether they are ours is for surroundings_of() to show.
Result<std::vector<OpenTicket>> read_tickets(Database& database);

// In the place of all that are there.
Result<void> write_tickets(Database& database, const std::vector<OpenTicket>& tickets);

Hash digest_of(const std::vector<OpenTicket>& tickets);

}  // namespace vtpm::vault
