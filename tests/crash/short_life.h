// Short lives of a host.
#pragma once

#include <functional>
#include <vector>

#include "world.h"

namespace vtpm::crash {

using Life = std::vector<std::function<void(World&)>>;
// In which everything happens once.
extern const Life short_life;
// Nothing but guests' writes, after those of which the chip knows.
extern const Life open_epoch;

// As far as the power lasts.
void perform(
    World& world, const Life& life, const std::function<void()>& after_each = [] {});

// After all that the disk may have made of the operations in doubt, or `most` of it.
void judge_all(World& world, Random& random, std::size_t most);

}  // namespace vtpm::crash
