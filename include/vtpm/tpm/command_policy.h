// CommandPolicy: which commands of a guest's its TPM is asked to execute at all. What is denied
// never reaches the TPM's code, so that an instance's surface can be made as small as its guest
// allows.
//
// Plain value; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vtpm/tpm/message.h"

namespace vtpm::tpm {

struct CommandPolicy {
    static constexpr std::size_t max_denied = 256;
    // The ring's locality byte is the guest kernel's own word; locality 4 is what only hardware may
    // claim (TCG PC Client TPM Profile, "locality 4").
    static constexpr std::uint8_t possible_localities = 0x0f;

    std::vector<std::uint32_t> denied = {};         // ordinals (1.2), command codes (2.0)
    std::uint8_t localities = possible_localities;  // bit N: locality N
    bool vendor = false;       // codes with the vendor bit (TPM Main Part 2, 17; Part 2, 8.9)
    bool maintenance = false;  // maintenance archives (1.2), field upgrade and firmware (both)

    // Why not, if not. Of a TPM 1.2 the command that TPM_ExecuteTransport carries is judged as well
    // (TPM Main Part 3, 24.2: its header is in the clear; it carries none of its kind).
    std::optional<Refusal> objection(Version version, ByteView command,
                                     std::uint8_t locality) const;
};

}  // namespace vtpm::tpm
