#include "manager.h"

#include "vtpm/base/log.h"

namespace vtpm::manager {

void try_unlock(Manager& manager) {
    if (manager.vault.status().phase != vault::Phase::locked)
        return;
    const auto opened = manager.vault.unlock();
    if (opened) {
        manager.told.clear();
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

void commit_due(Manager& manager) {
    const auto done = manager.vault.commit_due();
    if (!done && std::exchange(manager.told, done.error().context) != done.error().context) {
        spdlog::error("the chip does not take the newest state ({}): {}",
                      to_string(done.error().code), done.error().context);
    }
}

}  // namespace vtpm::manager
