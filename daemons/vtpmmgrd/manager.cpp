#include "manager.h"

#include "vtpm/base/log.h"

namespace vtpm::manager {
namespace {

constexpr std::chrono::seconds look_interval{1};

}  // namespace

void try_unlock(Manager& manager) {
    if (manager.vault.status().phase != vault::Phase::locked)
        return;
    const auto& left_behind = manager.keys.left_behind();
    auto opened =
        left_behind ? manager.vault.unlock_with_keys(*left_behind) : manager.vault.unlock();
    if (!opened && left_behind && opened.error().next != NextAction::retry_later) {
        spdlog::warn("the keys that the last vtpmmgrd left do not open the vault ({}): {}",
                     to_string(opened.error().code), opened.error().context);
        opened = manager.vault.unlock();
    }
    if (opened) {
        manager.told.clear();
        (void)manager.keys.keep(manager.vault);  // nobody is there to be told; it is logged
        spdlog::info("vault open: {} instances", manager.vault.status().instances);
        return;
    }
    // The same reason every few seconds would bury the journal.
    if (std::exchange(manager.told, opened.error().context) == opened.error().context)
        return;
    spdlog::error(
        "vault locked ({}): {}. Guests are refused, nothing is changed; see 'vtpmctl status'",
        to_string(opened.error().code), opened.error().context);
}

void look_again(Manager& manager) {
    const auto now = std::chrono::steady_clock::now();
    const auto reason = manager.vault.status().reason;
    if (!reason || reason->next != NextAction::retry_later || now < manager.next_look)
        return;
    try_unlock(manager);
    manager.next_look = std::chrono::steady_clock::now() + look_interval;
}

bool serve_meanwhile(boost::asio::io_context& loop) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::seconds(1);
    while (loop.poll_one() > 0 && Clock::now() < end) {
    }
    return !loop.stopped();
}

void commit_due(Manager& manager) {
    const auto done = manager.vault.commit_due();
    if (!done && std::exchange(manager.told, done.error().context) != done.error().context) {
        spdlog::error("the chip does not take the newest state ({}): {}",
                      to_string(done.error().code), done.error().context);
    }
}

}  // namespace vtpm::manager
