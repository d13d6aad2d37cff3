// The model of reference/sealing.md 2.4, over the real vault: power cuts at any operation, all that
// a disk may make of what was not synced, and whatever older image somebody puts back.
#include <catch2/catch.hpp>

#include "seed.h"
#include "short_life.h"
#include "world.h"

using namespace vtpm;
using namespace vtpm::crash;

namespace {

// One host from its set-up on, over `starts` starts.
void live(World& world, Random& random, std::size_t starts) {
    world.keep_images(25);
    for (std::size_t start = 0; start < starts; ++start) {
        const auto trouble = static_cast<World::Trouble>(one_in(random, 2) ? 0 : below(random, 3));
        world.power_on(one_in(random, 4) ? SIZE_MAX : 1 + below(random, 150), trouble);
        if (world.boot()) {
            const std::size_t acts = below(random, 30);
            for (std::size_t n = 0; n < acts && world.alive(); ++n)
                world.anything();
            if (world.alive() && one_in(random, 2))
                world.orderly_end();
        }
        world.power_off();
        world.put_back_images(6, one_in(random, 6));
    }
}

void live_many(std::size_t worlds) {
    const auto directory = in_memory();
    Figures figures;
    for (std::size_t n = 0; n < worlds && figures.sound(); ++n) {
        // Each by its own, so that a failure needs only that one to be seen again.
        Random random(seed() + static_cast<std::uint32_t>(n));
        INFO("VTPM_TEST_SEED=" << seed() + n);
        World world(directory.path() / std::to_string(n), random, figures);
        live(world, random, 25);
        std::filesystem::remove_all(directory.path() / std::to_string(n));
        CHECK(figures.sound());
    }
    WARN("seed " << seed() << ": " << figures.table());
    CHECK(figures.refused > worlds * 50);
    CHECK(figures.in_window > worlds * 5);
    CHECK(figures.worst_window > 3);
}

// A cut at every `stride`th operation of a short life; then, if `twice`, one at every operation of
// the start that follows.
void cut_everywhere(std::size_t stride, std::size_t most, bool twice) {
    const auto directory = in_memory();
    Figures figures;
    bool complete = false;
    for (std::size_t at = 1 + seed() % stride; !complete && figures.sound(); at += stride) {
        Random random(seed());
        INFO("VTPM_TEST_SEED=" << seed() << ", cut at operation " << at);
        World world(directory.path() / std::to_string(at), random, figures);
        world.keep_images(3);
        world.power_on(at);
        if (world.boot())
            perform(world, short_life);
        complete = world.alive();
        judge_all(world, random, most);
        world.power_off();
        world.put_back_images(most, false);
        for (std::size_t again = 1; twice; ++again) {
            world.power_on(again);
            const bool through = world.boot();
            judge_all(world, random, most / 8);
            world.power_off();
            if (through)
                break;
        }
        std::filesystem::remove_all(directory.path() / std::to_string(at));
        CHECK(figures.sound());
    }
    WARN("seed " << seed() << ": " << figures.table());
    CHECK(figures.refused > 100);
}

// One sync after the other gives EIO, and writes nothing or half; the vault may say no to what it
// was asked for then, and a power cut later takes nothing of what it said yes to.
void fail_each_sync(std::size_t most) {
    const auto directory = in_memory();
    Figures figures;
    bool failed = true;
    for (std::size_t nth = 1; failed && figures.sound(); ++nth) {
        Random random(seed());
        INFO("VTPM_TEST_SEED=" << seed() << ", sync " << nth << " fails");
        World world(directory.path() / std::to_string(nth), random, figures);
        world.power_on();
        world.disk().fail_sync(nth);
        const auto judge = [&] { judge_all(world, random, most); };
        const bool booted = world.boot();
        if (booted)
            perform(world, short_life, judge);
        failed = world.disk().sync_failed();
        if (!booted) {
            world.power_off();
            world.power_on();
            CHECK(world.boot());
            perform(world, short_life, judge);
        }
        world.power_off();
        CHECK(figures.sound());
    }
    WARN("seed " << seed() << ": " << figures.table());
    CHECK(figures.boots > 20 * most);
}

}  // namespace

TEST_CASE("random lives of a host, with power cuts, a troublesome chip and older disks") {
    live_many(15);
}

TEST_CASE("a power cut at each operation of a short life") {
    cut_everywhere(2, 16, false);
}

TEST_CASE("a power cut at each operation of the start that brings format 5 up to date") {
    const auto directory = in_memory();
    Figures figures;
    Random random(seed());
    World world(directory.path(), random, figures);
    world.power_on();
    REQUIRE(world.boot());
    for (const auto act : {&World::create, &World::store, &World::create, &World::store})
        (world.*act)();
    world.orderly_end();
    world.power_off();
    std::size_t at = 0;
    for (bool complete = false; !complete && figures.sound();) {
        INFO("VTPM_TEST_SEED=" << seed() << ", cut at operation " << at + 1);
        world.make_it_format_5();
        world.power_on(++at);
        complete = world.boot();
        judge_all(world, random, 16);
        world.power_off();
        CHECK(figures.sound());
    }
    CHECK(at > 10);
    world.power_on();
    REQUIRE(world.boot());
    for (const auto act : {&World::take_snapshot, &World::store, &World::revert})
        (world.*act)();
    world.power_off();
    CHECK(figures.sound());
    WARN("seed " << seed() << ": " << at << " operations; " << figures.table());
}

TEST_CASE("each sync of a short life fails once") {
    fail_each_sync(16);
}

TEST_CASE("many random lives of a host", "[.long]") {
    live_many(250);
}

TEST_CASE("power cuts at each operation, twice, with all that a disk may make of them", "[.long]") {
    cut_everywhere(1, 96, true);
}
