// Every byte of the database and of its log is changed, and both are cut off at every length: what
// is served then is right, and a guest that cannot be served is not taken for a new one.
#include <algorithm>
#include <catch2/catch.hpp>

#include "seed.h"
#include "world.h"

using namespace vtpm;
using namespace vtpm::crash;

namespace {

enum class Ended { in_order, after_a_commit, in_an_epoch };

// Three guests with states and one without, and a snapshot; the image is what lies on the disk.
Image prepare(World& world, Ended ended) {
    world.power_on();
    REQUIRE(world.boot());
    world.create();
    world.store();
    world.create();
    world.store();
    world.store();
    world.take_snapshot();
    world.commit();  // and all of it into the database
    world.store();
    world.create();
    for (int n = 0; n < 4; ++n)
        world.store();
    world.create();
    if (ended == Ended::in_order) {
        world.orderly_end();
    } else if (ended == Ended::in_an_epoch) {
        for (int n = 0; n < 3; ++n)
            world.store();
    }
    const Image image = world.disk().cache();
    world.power_off(image);
    return image;
}

Bytes flipped(const Bytes& good, std::size_t at) {
    Bytes bad = good;
    bad[at] ^= static_cast<std::uint8_t>(1U << ((at + seed()) % 8));
    return bad;
}

Bytes cut_off(const Bytes& good, std::size_t size) {
    return {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)};
}

// At every `stride`th place of this file; `all_used`: and wherever it is not zero.
std::map<World::Damage, std::size_t> damage(World& world, const Figures& figures,
                                            const Image& image, const std::string& file,
                                            Bytes (*how)(const Bytes&, std::size_t),
                                            std::size_t stride, bool all_used = false) {
    std::map<World::Damage, std::size_t> outcomes;
    const Bytes good = image->at(file).bytes();
    // The log is made of zeros in advance; what was never written says nothing.
    const auto last = std::find_if(good.rbegin(), good.rend(), [](auto byte) { return byte != 0; });
    const std::size_t end =
        file == "vault.db" ? good.size() : static_cast<std::size_t>(good.rend() - last);
    for (std::size_t at = 0; at < end && figures.sound(); ++at) {
        if ((at + seed()) % stride != 0 && !(all_used && good[at] != 0))
            continue;
        Image damaged = image;
        (*damaged)[file] = Contents(how(good, at));
        ++outcomes[world.judge_damaged(damaged)];
        INFO(file << ", at " << at << ": " << figures.first);
        CHECK(figures.sound());
    }
    WARN(file << ", " << good.size() << " bytes, stride " << stride << ": "
              << outcomes[World::Damage::refused] << " refused, "
              << outcomes[World::Damage::one_guest] << " one guest alone, "
              << outcomes[World::Damage::several] << " several, " << outcomes[World::Damage::older]
              << " of the open epoch, " << outcomes[World::Damage::harmless] << " harmless");
    return outcomes;
}

void damage_all(std::size_t stride) {
    const auto directory = in_memory();
    Figures figures;
    for (const auto ended : {Ended::in_order, Ended::after_a_commit, Ended::in_an_epoch}) {
        Random random(seed());
        INFO("VTPM_TEST_SEED=" << seed());
        World world(directory.path() / std::to_string(static_cast<int>(ended)), random, figures);
        const Image image = prepare(world, ended);
        const auto bytes =
            damage(world, figures, image, "vault.db", flipped, stride, ended == Ended::in_order);
        const auto sizes = damage(world, figures, image, "vault.db", cut_off, stride);
        CHECK(bytes.at(World::Damage::refused) > 0);
        CHECK(bytes.at(World::Damage::harmless) > 0);  // free space of pages
        if (ended == Ended::in_order) {
            CHECK(bytes.at(World::Damage::one_guest) > 1000 / stride);
            CHECK(sizes.at(World::Damage::harmless) == 0);
            continue;
        }
        // What the log has lost is committed, or it is not.
        auto log = damage(world, figures, image, "vault.db-wal", flipped, stride);
        auto shorter = damage(world, figures, image, "vault.db-wal", cut_off, stride);
        const bool open = ended == Ended::in_an_epoch;
        for (auto* const outcomes : {&log, &shorter}) {
            CHECK((*outcomes)[World::Damage::refused] > 1000 / stride);
            CHECK(((*outcomes)[World::Damage::older] > 0) == open);
            CHECK((*outcomes)[World::Damage::one_guest] == 0);
        }
        CHECK(log[World::Damage::harmless] == 0);
    }
    CHECK(figures.sound());
}

}  // namespace

TEST_CASE("bytes of the database and its log are flipped, or missing at the end") {
    damage_all(149);
}

TEST_CASE("every byte of the database and its log", "[.long]") {
    damage_all(1);
}
