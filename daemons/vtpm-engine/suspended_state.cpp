#include "suspended_state.h"

#include <algorithm>

namespace vtpm::engine_program {
namespace {

constexpr std::uint32_t suspended_magic = 0x58565331;  // "XVS1"
constexpr std::size_t suspended_head_size = 12;

bool is_suspended_state(const engine::StateBlob& blob) {
    return blob.kind == engine::StateKind::volatile_state;
}

}  // namespace

engine::StateBlob suspended_state(std::uint64_t life, const SecretBytes& volatile_state) {
    const Bytes head = ByteWriter().u32(suspended_magic).u64(life).take();
    SecretBytes content(head.size() + volatile_state.size());
    auto* const rest = std::copy(head.begin(), head.end(), content.span().data());
    std::copy(volatile_state.view().begin(), volatile_state.view().end(), rest);
    return {engine::StateKind::volatile_state, std::move(content)};
}

bool has_suspended_state(const std::vector<engine::StateBlob>& blobs) {
    return std::any_of(blobs.begin(), blobs.end(), is_suspended_state);
}

void drop_suspended_state(std::vector<engine::StateBlob>& blobs) {
    blobs.erase(std::remove_if(blobs.begin(), blobs.end(), is_suspended_state), blobs.end());
}

Result<SecretBytes> take_suspended_state(std::vector<engine::StateBlob>& blobs,
                                         std::uint64_t life) {
    const auto found = std::find_if(blobs.begin(), blobs.end(), is_suspended_state);
    if (found == blobs.end()) {
        return fail(Errc::not_found,
                    "the guest was restored, but its TPM was not suspended with it, or has been "
                    "used since");
    }
    const SecretBytes content = std::move(*found->content);
    blobs.erase(found);
    ByteReader reader(content.view());
    VTPM_TRY(const auto seen, reader.u32());
    VTPM_TRY(const auto its_life, reader.u64());
    if (seen != suspended_magic)
        return fail(Errc::corrupt, "the suspended state is of no known form");
    if (its_life != life) {
        return fail(Errc::out_of_order,
                    "the guest was restored from another save file than the one its TPM was "
                    "suspended with");
    }
    return SecretBytes::copy_of(content.view().subspan(suspended_head_size));
}

}  // namespace vtpm::engine_program
