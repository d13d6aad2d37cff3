#include "suspended_state.h"

#include <algorithm>

namespace vtpm::engine_program {
namespace {

constexpr std::uint32_t suspended = 0x58565332;  // "XVS2"

bool is_suspended_state(const engine::StateBlob& blob) {
    return blob.kind == engine::StateKind::volatile_state;
}

}  // namespace

engine::StateBlob suspended_state(std::uint64_t life, const SecretBytes& volatile_state) {
    return {engine::StateKind::volatile_state, with_head(suspended, life, volatile_state)};
}

bool has_suspended_state(const std::vector<engine::StateBlob>& blobs) {
    return std::any_of(blobs.begin(), blobs.end(), is_suspended_state);
}

void drop_suspended_state(std::vector<engine::StateBlob>& blobs) {
    blobs.erase(std::remove_if(blobs.begin(), blobs.end(), is_suspended_state), blobs.end());
}

Result<VolatileState> take_suspended_state(std::vector<engine::StateBlob>& blobs,
                                           std::uint64_t life) {
    const auto found = std::find_if(blobs.begin(), blobs.end(), is_suspended_state);
    if (found == blobs.end()) {
        return fail(Errc::not_found,
                    "the guest was restored, but its TPM was not suspended with it, or has been "
                    "used since");
    }
    const SecretBytes content = std::move(*found->content);
    blobs.erase(found);
    VTPM_TRY(auto taken, take_head(suspended, content.view()));
    if (taken.belongs_to != life) {
        return fail(Errc::out_of_order,
                    "the guest was restored from another save file than the one its TPM was "
                    "suspended with");
    }
    return taken;
}

}  // namespace vtpm::engine_program
