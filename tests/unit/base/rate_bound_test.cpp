#include "vtpm/base/rate_bound.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace std::chrono_literals;

TEST_CASE("a burst, then one each interval") {
    RateBound bound(3, 1s);
    const RateBound::Clock::time_point start{1000s};
    for (int i = 0; i < 3; ++i) {
        REQUIRE(bound.allows(start));
        bound.take(start);
    }
    CHECK_FALSE(bound.allows(start));
    CHECK(bound.allowed_from() == start + 1s);
    CHECK_FALSE(bound.allows(start + 999ms));
    REQUIRE(bound.allows(start + 1s));
    bound.take(start + 1s);
    CHECK_FALSE(bound.allows(start + 1s));
}

TEST_CASE("rest gives the burst back, and no more than the burst") {
    RateBound bound(2, 1s);
    RateBound::Clock::time_point now{1000s};
    bound.take(now);
    bound.take(now);
    now += 3600s;
    for (int i = 0; i < 2; ++i) {
        REQUIRE(bound.allows(now));
        bound.take(now);
    }
    CHECK_FALSE(bound.allows(now));
}

TEST_CASE("what was worth many is waited for") {
    RateBound bound(10, 1s);
    const RateBound::Clock::time_point start{1000s};
    bound.take(start, 9);
    REQUIRE(bound.allows(start));
    bound.take(start, 30);
    CHECK(bound.allowed_from() == start + 30s);
}
