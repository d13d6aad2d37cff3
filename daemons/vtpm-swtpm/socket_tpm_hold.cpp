// SocketTpm's hold on its instance, and what becomes of it while vtpmmgrd is away.
#include <poll.h>

#include <thread>

#include "socket_tpm.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds retry_interval{100};
constexpr milliseconds manager_interval{300};
constexpr milliseconds open_patience{3000};  // of one that starts

}  // namespace

Result<void> SocketTpm::hold(milliseconds patience) {
    if (manager_.fd() < 0)
        std::this_thread::sleep_until(holds_.allowed_from());
    const auto end = Clock::now() + patience;
    while (manager_.fd() < 0) {
        const auto opened = manager_.open(instance_.uuid, seat_.guest(), open_patience);
        if (opened) {
            holds_.take(Clock::now());
            break;
        }
        const bool may_change = opened.error().code == Errc::in_use ||
                                opened.error().next == NextAction::retry ||
                                opened.error().next == NextAction::retry_later;
        if (!may_change || Clock::now() >= end)
            return tl::make_unexpected(opened.error());
        std::this_thread::sleep_for(retry_interval);
    }
    return {};
}

// The engine's own channel broke with it: commits wait a little and then fail, what needs none goes
// on, until the manager is back.
void SocketTpm::on_manager() {
    manager_.close();
    spdlog::error(
        "{}: vtpmmgrd is gone; until it is back the TPM refuses what would change its "
        "lasting state",
        who());
    retry_at_ = Clock::now();
}

// Two engines of one instance must not both go on.
void SocketTpm::give_up_hold() {
    retry_at_.reset();
    taken_by_other_ = 0;
    if (const auto fresh = go_dark(); !fresh)
        (void)failed("another engine", fresh.error());
    power_ = Power::failed;
    spdlog::error(
        "{}: another machine has taken the instance meanwhile, and with it the PCRs of this boot; "
        "this one has no TPM until it is reset or started again",
        who());
}

void SocketTpm::look_after_manager() {
    pollfd manager{manager_.fd(), POLLIN, 0};
    if (manager.fd >= 0 && ::poll(&manager, 1, 0) > 0)
        on_manager();
    if (power_ != Power::on)
        return;
    order_waits_ = true;
    tick(Clock::now());
    order_waits_ = false;
}

void SocketTpm::tick(Clock::time_point now) {
    if (!retry_at_ || now < *retry_at_)
        return;
    retry_at_.reset();
    if (power_ == Power::parked && engine_)
        (void)unpark(milliseconds(0));
    if (power_ != Power::on || manager_.fd() >= 0)
        return;  // what is not held now is asked for when it is needed
    if (const auto held = hold(milliseconds(0)); !held) {
        retry_at_ = now + manager_interval;
        // Not while the engine, which would be gone then, has an order: the next tick does it.
        if (held.error().code == Errc::in_use && ++taken_by_other_ >= max_taken_by_other &&
            !order_waits_)
            give_up_hold();
        return;
    }
    taken_by_other_ = 0;
    spdlog::info("{}: vtpmmgrd is back", who());
    auto channel = manager_.attach_engine();
    if (!channel) {
        manager_.close();
        retry_at_ = now + manager_interval;
        return;
    }
    // If the engine is gone, its own channel says so.
    (void)engine_->give_manager(std::move(*channel));
}

}  // namespace vtpm::swtpm
