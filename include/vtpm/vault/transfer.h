// What goes from one manager to another when an instance moves: a ticket, a package, a receipt.
//
// Bytes for files that a person carries. None of them shows a state or a key: the package is for
// the group that gave out the ticket. The reasons are in docs/decisions/0006. Plain values.
#pragma once

#include <cstdint>
#include <string>

#include "vtpm/base/bytes.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

inline constexpr std::size_t max_ticket_size = 4096;
inline constexpr std::size_t max_package_size = 2048UL * 1024;
inline constexpr std::int64_t ticket_seconds = 7L * 24 * 3600;
inline constexpr std::size_t max_open_tickets = 100;

// For people who compare what they have at both ends.
std::string fingerprint(ByteView bytes);

struct MadeTicket {
    Bytes bytes;
    Uuid manager;
    Uuid group;
    std::int64_t expires = 0;  // unix seconds
};

struct PackageFacts {
    Uuid source;  // as it says; nothing proves that
    Uuid target;
    Uuid group;  // of the target
    Uuid instance;
    std::string name;
    std::uint8_t tpm = 0;
    std::uint64_t sequence = 0;
    Bytes policy;  // as Instance::policy
};

// What a package says of itself; only its import shows whether that is so. Errc::malformed,
// too_large, unsupported.
Result<PackageFacts> read_package(ByteView package);

}  // namespace vtpm::vault
