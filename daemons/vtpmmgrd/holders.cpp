#include "holders.h"

#include <string>

#include "engine_session.h"

namespace vtpm::manager {
namespace {

// Above the numbers of Xen's domains are the seats of vtpm-swtpm.
constexpr std::uint32_t first_seat = 0x8000;

std::string name_of(GuestDevice guest) {
    if (guest.domain >= first_seat)
        return "vtpm-swtpm (seat " + std::to_string(guest.domain - first_seat) + ")";
    return "domain " + std::to_string(guest.domain) + " (device " + std::to_string(guest.device) +
           ")";
}

}  // namespace

Result<void> Holders::acquire(const Uuid& uuid, GuestDevice guest, ByteView heir) {
    auto [hold, fresh] = holds_.try_emplace(uuid, Hold{guest, Bytes(heir.begin(), heir.end())});
    if (!fresh && (hold->second.attended || hold->second.guest != guest ||
                   !equal_constant_time(hold->second.heir, heir))) {
        return fail(Errc::in_use, "instance " + uuid.to_string() + " is in use by " +
                                      name_of(hold->second.guest));
    }
    hold->second.attended = true;
    return {};
}

void Holders::release(const Uuid& uuid) {
    const auto hold = holds_.find(uuid);
    if (hold == holds_.end())
        return;
    hold->second.attended = false;
    drop_if_over(hold);
}

void Holders::set_engine(const Uuid& uuid, const std::shared_ptr<EngineSession>& engine) {
    const auto hold = holds_.find(uuid);
    if (hold == holds_.end())
        return;
    const auto before = std::exchange(hold->second.engine, engine);
    if (before)
        before->close();
}

void Holders::engine_gone(const Uuid& uuid, const EngineSession* engine) {
    const auto hold = holds_.find(uuid);
    if (hold == holds_.end() || hold->second.engine.get() != engine)
        return;
    hold->second.engine = nullptr;
    drop_if_over(hold);
}

std::shared_ptr<Allowance> Holders::allowance(const Uuid& uuid) {
    // One that nobody has and that is whole again is worth no memory.
    std::erase_if(allowances_, [now = Allowance::Clock::now()](const auto& known) {
        return known.second.use_count() == 1 && known.second->whole(now);
    });
    auto& found = allowances_[uuid];
    if (!found)
        found = std::make_shared<Allowance>();
    return found;
}

std::optional<GuestDevice> Holders::holder(const Uuid& uuid) const {
    const auto hold = holds_.find(uuid);
    if (hold == holds_.end())
        return std::nullopt;
    return hold->second.guest;
}

void Holders::drop_if_over(std::map<Uuid, Hold>::iterator hold) {
    if (!hold->second.attended && hold->second.engine == nullptr)
        holds_.erase(hold);
}

}  // namespace vtpm::manager
