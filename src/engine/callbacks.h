// libtpms' callbacks, which take no context pointer: the one place of this repository with program
// state in statics. Private to the engine room.
#pragma once

#include <cstdint>

#include "vtpm/engine/state_shelf.h"

namespace vtpm::engine {

// Registers the callbacks, with `shelf` behind them. The shelf must outlive the engine.
Result<void> register_callbacks(StateShelf& shelf);

// The locality that the command about to run came with.
void set_locality(std::uint8_t locality);

}  // namespace vtpm::engine
