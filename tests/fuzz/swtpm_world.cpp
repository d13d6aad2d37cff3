#include "swtpm_world.h"

#include <poll.h>

#include "manager_client.h"
#include "socket_engine.h"

namespace vtpm::fuzz {

SwtpmWorld*& swtpm_world() {
    static SwtpmWorld* world = nullptr;
    return world;
}

bool SwtpmWorld::is_held() const {
    pollfd end{manager.get(), POLLIN, 0};
    return manager.valid() && ::poll(&end, 1, 0) == 0;
}

namespace {

SwtpmWorld& world() {
    return *swtpm_world();
}

// What the caller asks again for, after a while: seldom, for the while is a real one.
bool waits_for_change() {
    return world().input.rarely() && world().input.rarely() &&
           !std::exchange(world().has_waited, true);
}

}  // namespace
}  // namespace vtpm::fuzz

namespace vtpm::doorman {

using fuzz::must;
using fuzz::world;

Result<OpenedInstance> ManagerClient::open(const Uuid& uuid, GuestDevice /*guest*/,
                                           wire::Channel::Timeout /*patience*/) {
    must(uuid == world().uuid, "another instance is asked for");
    ++world().opens;
    close();
    if (fuzz::waits_for_change())
        return fail(Errc::in_use, "in use");
    if (world().input.rarely())
        return fail(Errc::locked, NextAction::refuse, "locked");
    auto pair = stream_socket_pair().value();
    channel_ = std::make_unique<wire::Channel>(std::move(pair.first));
    world().manager = std::move(pair.second);
    return OpenedInstance{"web1", world().version};
}

Result<Fd> ManagerClient::attach_engine() {
    must(channel_ != nullptr, "a channel for the engine of an instance that is not held");
    if (!world().is_held() || world().input.rarely())
        return fail(Errc::unavailable, "gone");
    return std::move(stream_socket_pair().value().first);
}

bool ManagerClient::tell(const wire::proto::Power& power) {
    tells(power);
    return true;
}

}  // namespace vtpm::doorman

namespace vtpm::swtpm {
namespace {

using fuzz::must;
using fuzz::world;
using wire::proto::Order;

Error gone() {
    world().engine.dead = true;
    world().engine.runs = false;
    return {Errc::io, NextAction::retry, "it is gone"};
}

bool dies() {
    return world().engine.dead || (world().input.rarely() && world().input.flag());
}

bool got_a_manager() {
    wire::Channel orders(world().engine.orders.duplicate().value());
    const auto frame = orders.receive_with_descriptor(std::chrono::milliseconds(0));
    const auto order = frame ? wire::parse<Order>(*frame) : fail(Errc::malformed, "");
    return order && order->has_attach() && frame->descriptor.valid();
}

}  // namespace

Result<std::unique_ptr<SocketEngine>> SocketEngine::start(const std::string& /*program*/,
                                                          tpm::Version version,
                                                          std::uint32_t /*uid*/, Fd /*log*/) {
    must(version == world().version, "an engine for another version");
    world().engine = {};
    if (world().input.rarely() && world().input.flag())
        return fail(Errc::io, "no process");
    VTPM_TRY(auto cancels, SharedCount::create());
    VTPM_TRY(auto pair, stream_socket_pair());
    world().engine.orders = std::move(pair.second);
    return std::unique_ptr<SocketEngine>(new SocketEngine(
        doorman::EngineProcess::adopt(std::move(pair.first), Fd()), std::move(cancels), Fd()));
}

Result<void> SocketEngine::give_data(int socket) {
    must(socket >= 0, "no data channel is given as one");
    in_step_ = !dies();
    if (!in_step_)
        return tl::make_unexpected(gone());
    data_closed_ = false;
    return {};
}

Result<void> SocketEngine::power_on(const wire::proto::PowerOn& order) {
    auto& engine = world().engine;
    must(!std::exchange(engine.had_power, true), "an engine has one life");
    must(got_a_manager(), "power for an engine that cannot store");
    must(order.tpm() == static_cast<std::uint32_t>(world().version), "power for another version");
    must(order.resume() || world().power_is_new, "fresh PCRs, and its machine has not been reset");
    must(!order.resume() || world().labels.contains(order.life()), "a label out of nowhere");
    in_step_ = !dies();
    if (!in_step_)
        return tl::make_unexpected(gone());
    if (world().input.rarely())
        return fail(Errc::corrupt, "corrupt");
    // Of use once, and no more after any other power-on.
    const auto put_by = std::exchange(world().put_by, std::nullopt);
    if (order.resume() && put_by != order.life()) {
        world().put_by = put_by;
        return fail(put_by ? Errc::out_of_order : Errc::not_found, "not put by");
    }
    engine.runs = true;
    return {};
}

Result<void> SocketEngine::power_off() {
    must(world().engine.had_power, "nothing is switched off");
    cancel();
    const bool fails = dies();
    (void)gone();
    return fails ? fail(Errc::io, "not stored") : Result<void>();
}

Result<bool> SocketEngine::suspend(std::uint64_t label, bool if_unused) {
    must(world().engine.dead || world().engine.runs, "what does not run is put by");
    in_step_ = !dies();
    if (!in_step_)
        return tl::make_unexpected(gone());
    if (fuzz::waits_for_change())
        return fail(Errc::unavailable, "not stored");
    world().engine.runs = false;
    world().engine.dead = true;
    if (if_unused && world().input.flag())
        return false;
    must(label != 0, "put by under no label");
    world().put_by = label;
    world().labels.insert(label);
    return true;
}

void SocketEngine::cancel() {
    must(!world().engine.dead || world().engine.had_power, "there is no command");
}

Result<SocketEngine::Answer> SocketEngine::ask(const Order& order, ByteView /*payload*/) {
    auto& input = world().input;
    if (idle_ && input.rarely())
        idle_();
    in_step_ = !dies();
    if (!in_step_)
        return tl::make_unexpected(gone());
    Answer answer{input.rarely() ? input.edgy() : 0, input.flag(), {}};
    if (order.has_info())
        answer.payload = SecretBytes::copy_of(as_bytes(input.text(40)));
    return answer;
}

Result<void> SocketEngine::on_report() {
    if (dies())
        return tl::make_unexpected(gone());
    data_closed_ = true;
    return {};
}

}  // namespace vtpm::swtpm
