#include "short_life.h"

namespace vtpm::crash {

const Life short_life = {
    &World::create, &World::store,  &World::take_snapshot,   &World::store,       &World::commit,
    &World::revert, &World::store,  &World::rename,          &World::create,      &World::clone,
    &World::store,  &World::idle,   &World::remove_snapshot, &World::store,       &World::remove,
    &World::store,  &World::commit, &World::store,           &World::orderly_end,
};

const Life open_epoch(10, &World::store);

void perform(World& world, const Life& life, const std::function<void()>& after_each) {
    for (const auto& act : life) {
        if (!world.alive())
            return;
        act(world);
        after_each();
    }
}

void judge_all(World& world, Random& random, std::size_t most) {
    const std::size_t doubt = world.disk().in_doubt();
    const bool all = doubt < 16 && (std::size_t{1} << doubt) <= most;
    const std::size_t cases = all ? std::size_t{1} << doubt : most;
    for (std::size_t n = 0; n < cases; ++n) {
        world.judge_power_cut(all          ? world.disk().with(n)
                              : n % 2 == 0 ? world.disk().after_power_cut(random)
                                           : world.disk().with(random()));
    }
}

}  // namespace vtpm::crash
