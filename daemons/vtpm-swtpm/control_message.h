// swtpm's control channel: its commands, where one begins and ends, and its answers.
//
//   request:  u32 command | body          answer:  u32 result | body          (big-endian)
//
// A command has no length of its own; its body has one that is fixed or says how long it is. The
// peer waits for an answer before it goes on, so what comes in one piece is one command, and what
// is left over is an error of the peer's. Plain functions, any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "vtpm/base/bytes.h"

namespace vtpm::swtpm {

enum class Command : std::uint32_t {
    get_capability = 1,
    init = 2,
    shutdown = 3,
    get_established = 4,
    set_locality = 5,
    hash_start = 6,
    hash_data = 7,
    hash_end = 8,
    cancel = 9,
    store_volatile = 10,
    reset_established = 11,
    get_stateblob = 12,
    set_stateblob = 13,
    stop = 14,
    get_config = 15,
    set_datafd = 16,
    set_buffersize = 17,
    get_info = 18,
    lock_storage = 19,
};

// TPM_RESULT, of TPM Main Part 2, section 16: what the protocol says of 2.0 as well.
namespace result {
inline constexpr std::uint32_t success = 0;
inline constexpr std::uint32_t bad_parameter = 0x03;
inline constexpr std::uint32_t fail = 0x09;
inline constexpr std::uint32_t bad_ordinal = 0x0a;
inline constexpr std::uint32_t io_error = 0x1f;
inline constexpr std::uint32_t bad_locality = 0x3d;
inline constexpr std::uint32_t none = 0x800;  // TPM_RETRY: there is no such state
}  // namespace result

// All but the header that carries a locality on the data channel.
inline constexpr std::uint32_t capabilities = 0x17fff;

// Of one request: beyond it, what is announced is not waited for.
inline constexpr std::size_t max_hash_data = 4096;
inline constexpr std::size_t max_stateblob = 512UL * 1024;
inline constexpr std::size_t max_request = 16 + max_stateblob;

struct Request {
    Command command;
    ByteView body;
};

enum class Framing { incomplete, complete, malformed };

// Whether what was received is one request, and which.
Framing frame(ByteView received, Request& request);

// Whether a request of this kind says in its head how much follows.
bool says_its_size(Command command);

// Header-only answer.
Bytes answer(std::uint32_t result);
// An answer whose result is not 0 is as long as any other: some peers wait for all of it.
std::size_t answer_size(Command command);
Bytes refusal(std::uint32_t command, std::uint32_t result);

}  // namespace vtpm::swtpm
