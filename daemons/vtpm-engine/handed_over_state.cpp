#include "handed_over_state.h"

namespace vtpm::engine_program {
namespace {

constexpr std::uint32_t handed_over = 0x58564832;  // "XVH2"

}  // namespace

SecretBytes handed_over_state(std::uint64_t sequence, const SecretBytes& volatile_state) {
    return with_head(handed_over, sequence, volatile_state);
}

Result<VolatileState> take_handed_over_state(const SecretBytes& state, std::uint64_t sequence) {
    VTPM_TRY(auto taken, take_head(handed_over, state.view()));
    if (taken.belongs_to != sequence) {
        return fail(Errc::out_of_order,
                    "the TPM was used by somebody else since its engine handed it over");
    }
    return taken;
}

}  // namespace vtpm::engine_program
