#include "holders.h"

#include <catch2/catch.hpp>
#include <cstddef>

#include "engine_session.h"

using namespace vtpm;
using namespace vtpm::manager;

namespace {
const Bytes heir(16, 1);
}

TEST_CASE("one holder at a time") {
    Holders holders;
    const auto uuid = Uuid::random();
    REQUIRE(holders.acquire(uuid, {5, 0}, heir));
    const auto second = holders.acquire(uuid, {6, 0}, heir);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::in_use);
    CHECK(second.error().context.find("domain 5") != std::string::npos);
    CHECK_FALSE(holders.acquire(uuid, {5, 0}, heir));  // the same guest, through a second vtpmd
    CHECK(holders.acquire(Uuid::random(), {6, 0}, heir));
    CHECK(holders.holder(uuid) == GuestDevice{5, 0});
    holders.release(uuid);
    CHECK_FALSE(holders.holder(uuid));
    CHECK(holders.acquire(uuid, {6, 0}, heir));
}

TEST_CASE("what an instance may ask for does not begin afresh with its guest") {
    Holders holders;
    const auto uuid = Uuid::random();
    REQUIRE(holders.acquire(uuid, {5, 0}, heir));
    holders.allowance(uuid)->take_work(1UL << 20);
    holders.release(uuid);
    REQUIRE(holders.acquire(uuid, {6, 0}, heir));
    CHECK_FALSE(holders.allowance(uuid)->whole(Allowance::Clock::now()));
    CHECK(holders.allowance(Uuid::random())->whole(Allowance::Clock::now()));
}

TEST_CASE("an engine that outlives its vtpmd keeps the instance for its guest") {
    Holders holders;
    const auto uuid = Uuid::random();
    // Only its address counts; there is no session behind it.
    const auto place = std::make_shared<std::max_align_t>();
    const std::shared_ptr<EngineSession> session(place,
                                                 reinterpret_cast<EngineSession*>(place.get()));
    REQUIRE(holders.acquire(uuid, {5, 0}, heir));
    holders.set_engine(uuid, session);
    holders.release(uuid);
    CHECK_FALSE(holders.acquire(uuid, {6, 0}, heir));
    CHECK_FALSE(holders.acquire(uuid, {5, 0}, Bytes(16, 2)));  // of the same name, but no heir
    CHECK_FALSE(holders.acquire(uuid, {5, 0}, {}));
    CHECK(holders.acquire(uuid, {5, 0}, heir));
    holders.release(uuid);
    holders.engine_gone(uuid, nullptr);  // somebody else's engine
    CHECK(holders.holder(uuid));
    holders.engine_gone(uuid, session.get());
    CHECK_FALSE(holders.holder(uuid));
    CHECK(holders.acquire(uuid, {5, 0}, Bytes(16, 2)));
}
