// Manager: what the daemon's sessions share. References only; main() owns everything.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "commits.h"
#include "holders.h"
#include "key_keeper.h"
#include "settings.h"
#include "stories.h"
#include "vtpm/chip/chip.h"
#include "vtpm/vault/vault.h"

namespace vtpm::manager {

struct Manager {
    const Settings& settings;
    chip::Chip& chip;
    vault::Vault& vault;
    Holders& holders;
    KeyKeeper& keys;
    Commits& commits;
    Stories stories = {};
    // A guest can make its engine start once a second; the chip, which takes long, is not asked as
    // often.
    std::chrono::steady_clock::time_point next_seed = {};
    std::chrono::steady_clock::time_point next_look = {};  // at a chip that was away
    std::string told = {};  // why the vault is locked, as last logged
    // An administrator's request is being answered; others wait till then.
    bool occupied = false;
    std::vector<std::function<void()>> waiting = {};
    static constexpr std::size_t max_waiting = 256;
};

// Opens the vault if it can be opened now.
void try_unlock(Manager& manager);

// The same, if what locked it may be gone by itself: a chip that was away, a node that udev had not
// given to us yet. At most once a second, since a chip that does not answer takes long.
void look_again(Manager& manager);

// Serves who asks now, while one administrator's request takes long: engines, that is, since other
// administrators wait. Not for more than a moment, lest that request never ends. False: a signal
// has ended the loop, in which nobody is served any more.
bool serve_meanwhile(boost::asio::io_context& loop);

// What the vault has to tell the chip, if it is time for that; logged if it fails.
void commit_due(Manager& manager);

}  // namespace vtpm::manager
