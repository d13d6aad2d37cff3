#include "volatile_head.h"

#include <algorithm>

#include "vtpm/base/bytes.h"
#include "vtpm/engine/time_of_day.h"

namespace vtpm::engine_program {

SecretBytes with_head(std::uint32_t form, std::uint64_t belongs_to, const SecretBytes& content) {
    const Bytes head = ByteWriter().u32(form).u64(belongs_to).u64(engine::time_of_day()).take();
    SecretBytes whole(head.size() + content.size());
    auto* const rest = std::copy(head.begin(), head.end(), whole.span().data());
    std::copy(content.view().begin(), content.view().end(), rest);
    return whole;
}

Result<VolatileState> take_head(std::uint32_t form, ByteView state) {
    ByteReader reader(state);
    VTPM_TRY(const auto its_form, reader.u32());
    VolatileState taken;
    VTPM_TRY(taken.belongs_to, reader.u64());
    if (its_form != form - 1) {
        VTPM_TRY(taken.time_of_day, reader.u64());
    }
    if ((its_form != form && its_form != form - 1) || reader.left() == 0)
        return fail(Errc::corrupt, "the volatile state is of no known form");
    taken.content = SecretBytes::copy_of(reader.rest());
    return taken;
}

}  // namespace vtpm::engine_program
