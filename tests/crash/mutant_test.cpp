// The mutants of reference/sealing.md 2.4: hosts with a fault, in the same lives and before the
// same judge as a sound one. A model that finds nothing in them would find nothing in a vault.
#include <catch2/catch.hpp>

#include "seed.h"
#include "short_life.h"

using namespace vtpm;
using namespace vtpm::crash;

namespace {

using Fault = World::Fault;

// After a set-up in order, a start and a life with this fault, cut at this operation or, if at
// none, judged after each act. Then so many older images are put back. Returns its operations.
std::size_t live_once(const std::filesystem::path& directory, Fault fault, const Life& life,
                      std::size_t cut_at, std::size_t older, Figures& figures) {
    Random random(seed() + static_cast<std::uint32_t>(cut_at));
    World world(directory / std::to_string(cut_at), random, figures);
    world.power_on();
    REQUIRE(world.boot());
    world.create();
    world.store();
    world.orderly_end();
    world.power_off();
    world.keep_images(4);
    world.power_on(cut_at);
    world.suffer(fault);
    const auto judge = [&] { judge_all(world, random, 4); };
    if (world.boot()) {
        perform(world, life, [&] {
            if (cut_at == SIZE_MAX)
                judge();
        });
    }
    judge();
    const std::size_t operations = world.disk().operations();
    world.power_off();
    world.put_back_images(older, false);
    std::filesystem::remove_all(directory / std::to_string(cut_at));
    return operations;
}

// One life from end to end, and then one cut at each of a dozen places.
Figures live_with(Fault fault, const Life& life, std::size_t older = 0) {
    const auto directory = in_memory();
    Figures figures;
    const std::size_t end = live_once(directory.path(), fault, life, SIZE_MAX, older, figures);
    const std::size_t stride = end / 12;
    for (std::size_t at = 1 + seed() % stride; at <= end; at += stride)
        live_once(directory.path(), fault, life, at, older, figures);
    WARN("seed " << seed() << ": " << figures.table());
    return figures;
}

// Without a fault, for comparison with each.
const Figures& sound() {
    static const Figures figures = live_with(Fault::none, short_life, 4);
    return figures;
}
const Figures& sound_epoch() {
    static const Figures figures = live_with(Fault::none, open_epoch);
    return figures;
}

// What the chip has heard of is missed, and the vault stays locked; what it has not is just lost.
void lose_syncs(Fault fault) {
    CHECK(sound().sound());
    CHECK(sound_epoch().sound());
    CHECK(live_with(fault, short_life).false_alarms > 0);
    const Figures found = live_with(fault, open_epoch);
    CHECK(found.lost > 0);
    CHECK(found.false_alarms + found.rollbacks + found.made_new + found.other == 0);
}

}  // namespace

TEST_CASE("a disk that lies about each sync is found out") {
    lose_syncs(Fault::no_sync);
}

TEST_CASE("a disk that lies about the syncs of directories is found out") {
    lose_syncs(Fault::no_directory_sync);
}

TEST_CASE("an anchor that is not on the disk when the cell is extended is found out") {
    CHECK(sound().sound());
    const Figures found = live_with(Fault::no_anchor_sync, short_life);
    CHECK(found.false_alarms > 0);
    CHECK(found.lost + found.rollbacks + found.made_new + found.other == 0);
}

TEST_CASE("an answer that is given before the write is durable is found out") {
    CHECK(sound_epoch().sound());
    const Figures found = live_with(Fault::early_acknowledge, open_epoch);
    CHECK(found.lost > 0);
    CHECK(found.false_alarms + found.rollbacks + found.made_new + found.other == 0);
}

TEST_CASE("a chip that says what an older image wants is found out") {
    CHECK(sound().sound());
    CHECK(sound().refused > 0);
    const Figures found = live_with(Fault::chip_goes_back, short_life, 4);
    CHECK(found.rollbacks > 0);
    CHECK(found.false_alarms + found.lost + found.made_new + found.other == 0);
}
