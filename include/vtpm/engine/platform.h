// Platform: what a machine's chipset does to its TPM beside sending it commands: measure at a
// dynamic launch (_TPM_Hash_Start, _Data, _End; TPM Library Part 3, "Events") and read and reset
// the "TPM established" flag (TCG PC Client Platform TPM Profile, TPM_ACCESS.tpmEstablishment).
//
// Results are those of TPM 1.2 (TPM_RESULT), 0 is success; of a TPM without power: TPM_FAIL. The
// engine's thread only.
#pragma once

#include <cstdint>

#include "vtpm/base/bytes.h"

namespace vtpm::engine {

class Platform {
  public:
    virtual ~Platform() = default;

    virtual std::uint32_t hash_start() = 0;
    virtual std::uint32_t hash_data(ByteView data) = 0;
    virtual std::uint32_t hash_end() = 0;
    virtual std::uint32_t established(bool& value) = 0;
    virtual std::uint32_t reset_established(std::uint8_t locality) = 0;
};

}  // namespace vtpm::engine
