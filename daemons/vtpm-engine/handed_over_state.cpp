#include "handed_over_state.h"

#include <algorithm>

#include "vtpm/base/bytes.h"

namespace vtpm::engine_program {
namespace {

constexpr std::uint32_t handed_over_magic = 0x58564831;  // "XVH1"
constexpr std::size_t handed_over_head_size = 12;

}  // namespace

SecretBytes handed_over_state(std::uint64_t sequence, const SecretBytes& volatile_state) {
    const Bytes head = ByteWriter().u32(handed_over_magic).u64(sequence).take();
    SecretBytes content(head.size() + volatile_state.size());
    auto* const rest = std::copy(head.begin(), head.end(), content.span().data());
    std::copy(volatile_state.view().begin(), volatile_state.view().end(), rest);
    return content;
}

Result<SecretBytes> take_handed_over_state(const SecretBytes& state, std::uint64_t sequence) {
    ByteReader reader(state.view());
    VTPM_TRY(const auto seen, reader.u32());
    VTPM_TRY(const auto its_sequence, reader.u64());
    if (seen != handed_over_magic || state.size() == handed_over_head_size)
        return fail(Errc::corrupt, "what was handed over is of no known form");
    if (its_sequence != sequence) {
        return fail(Errc::out_of_order,
                    "the TPM was used by somebody else since its engine handed it over");
    }
    return SecretBytes::copy_of(state.view().subspan(handed_over_head_size));
}

}  // namespace vtpm::engine_program
