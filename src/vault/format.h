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
inline constexpr std::uint32_t format_version = 7;          // PRAGMA user_version
// Of what is under a MAC or is associated data. Formats 6 and 7 have more than 5, and mean the same
// by what they have in common: so that a vault is brought up to them without its keys.
inline constexpr std::uint32_t text_version = 5;

// Makes the tables in an empty database, inside the caller's transaction.
Result<void> create_tables(Database& database);

// Errc::corrupt if it is not ours, Errc::unsupported if it is of a version that is neither ours nor
// one that we bring up to date. Writes nothing.
Result<void> check_format(Database& database);

// Makes a database of a version before, which was checked, one of this version: all of it or
// nothing. Does nothing to one of this version.
Result<void> bring_up_to_date(Database& database);

}  // namespace vtpm::vault
