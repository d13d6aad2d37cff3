#include "tpm_start.h"

#include <chrono>

#include "handed_over_state.h"
#include "suspended_state.h"

namespace vtpm::engine_program {

Result<StartedTpm> start_tpm(engine::Engine& tpm, StateClient& state, tpm::Version version,
                             const wire::proto::PowerOn& order, const SecretBytes& handed_over,
                             const std::function<Result<void>()>& on_loaded) {
    const auto begin = std::chrono::steady_clock::now();
    VTPM_TRY(auto loaded, state.load());
    const bool manufacture = loaded.sequence == 0;
    const bool put_by = has_suspended_state(loaded.blobs);
    if (manufacture && !handed_over.empty()) {
        return fail(Errc::corrupt, "volatile state for an instance that was never stored");
    }
    VolatileState memory;
    if (order.resume()) {
        VTPM_TRY(memory, take_suspended_state(loaded.blobs, order.life()));
    } else if (!handed_over.empty()) {
        VTPM_TRY(memory, take_handed_over_state(handed_over, loaded.sequence));
    }
    drop_suspended_state(loaded.blobs);
    if (on_loaded && !manufacture && !put_by)
        VTPM_CHECK(on_loaded());
    engine::PowerOn start{version, manufacture, std::move(loaded.blobs), std::move(memory.content),
                          std::move(loaded.seed)};
    start.time_of_day = memory.time_of_day;
    start.has_firmware = order.has_firmware();
    start.banks = std::move(loaded.banks);
    if (order.buffer_size() != 0)
        start.buffer_size = order.buffer_size();
    VTPM_CHECK(tpm.power_on(std::move(start)));
    auto changes = tpm.take_changes();
    // Of use once: gone before the guest gets an answer.
    if (put_by)
        changes.push_back({engine::StateKind::volatile_state, std::nullopt});
    VTPM_CHECK(state.commit(std::move(changes)));
    wire::proto::Ready ready;
    ready.set_manufactured(manufacture);
    const auto took = std::chrono::steady_clock::now() - begin;
    ready.set_start_microseconds(static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    return StartedTpm{ready, std::move(loaded.policy)};
}

}  // namespace vtpm::engine_program
