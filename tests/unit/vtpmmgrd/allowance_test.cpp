#include "allowance.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::manager;
using namespace std::chrono_literals;

TEST_CASE("ten thousand requests in advance, then 250 a second") {
    Allowance allowance;
    for (int i = 0; i < 10'000; ++i) {
        REQUIRE(allowance.work.allows(RateBound::Clock::now()));
        allowance.take_work(1370);
    }
    const auto wait = allowance.work.allowed_from() - RateBound::Clock::now();
    // As many came back while this ran, slowly perhaps, as it took.
    CHECK(wait <= 4ms);
    for (int i = 0; i < 10'000; ++i)
        allowance.take_work(0);
    CHECK(allowance.work.allowed_from() - RateBound::Clock::now() > 30s);
}

TEST_CASE("two hundred commits to the chip in advance, then one a minute") {
    Allowance allowance;
    for (int i = 0; i < 200; ++i) {
        REQUIRE(allowance.next_request() <= Allowance::Clock::now());
        allowance.proofs.take(Allowance::Clock::now());
    }
    CHECK(allowance.next_request() > Allowance::Clock::now() + 50s);
    CHECK(allowance.work.allows(Allowance::Clock::now()));
    CHECK_FALSE(allowance.whole(Allowance::Clock::now() + 199min));
    CHECK(allowance.whole(Allowance::Clock::now() + 200min));
}

TEST_CASE("a large state is worth many requests") {
    Allowance allowance;
    for (int i = 0; i < 160; ++i)
        allowance.take_work(1UL << 20);  // 65 each
    CHECK_FALSE(allowance.work.allows(RateBound::Clock::now()));
}
