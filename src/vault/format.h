// The numbers and the tables of the database. A change of anything here is a new format_version.
//
// Private to the vault room.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "database.h"

namespace vtpm::vault {

inline constexpr std::int32_t application_id = 0x5856544d;  // "XVTM", PRAGMA application_id
inline constexpr std::uint32_t format_version = 5;          // PRAGMA user_version

// Makes the tables in an empty database, inside the caller's transaction.
Result<void> create_tables(Database& database);

// Errc::corrupt if it is not ours, Errc::unsupported if it is of another version.
Result<void> check_format(Database& database);

}  // namespace vtpm::vault
