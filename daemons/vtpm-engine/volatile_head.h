// What goes before a TPM's volatile state on its way to a later engine: what it belongs to, and the
// time of day that the TPM has seen (vtpm/engine/time_of_day.h).
//
//   u32 form, u64 what it belongs to, u64 microseconds since 1970, all big-endian; then the state
//
// The last byte of a form is its version, a digit: the one before had no time.
#pragma once

#include <cstdint>

#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::engine_program {

struct VolatileState {
    SecretBytes content;
    std::uint64_t time_of_day = 0;
    std::uint64_t belongs_to = 0;
};

// With the time of now.
SecretBytes with_head(std::uint32_t form, std::uint64_t belongs_to, const SecretBytes& content);
// Errc::corrupt if it is of another form, or empty.
Result<VolatileState> take_head(std::uint32_t form, ByteView state);

}  // namespace vtpm::engine_program
