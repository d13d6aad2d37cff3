#include "vtpm/base/busy_wait.h"

#include <catch2/catch.hpp>
#include <thread>

using namespace vtpm;
using namespace std::chrono_literals;

namespace {

constexpr auto longest = 20ms;

bool looks(BusyWait& wait) {
    int looked = 0;
    (void)wait.until([&] { return ++looked > 0; });
    return looked > 0;
}

void sleep_for_it(BusyWait& wait, std::chrono::milliseconds time) {
    REQUIRE_FALSE(looks(wait));
    std::this_thread::sleep_for(time);
    wait.came();
}

}  // namespace

TEST_CASE("what comes soon is looked for, without sleep") {
    BusyWait wait(longest);
    int looked = 0;
    CHECK(wait.until([&] { return ++looked == 3; }));
    CHECK(looked == 3);
}

TEST_CASE("who does not want to wait busily sleeps at once") {
    BusyWait wait(0us);
    CHECK_FALSE(looks(wait));
    wait.came();
    CHECK_FALSE(looks(wait));
}

TEST_CASE("after a wait in vain it takes several that would not have been") {
    BusyWait wait(longest);
    const auto before = BusyWait::Clock::now();
    CHECK_FALSE(wait.until([] { return false; }));
    CHECK(BusyWait::Clock::now() - before >= longest);
    wait.came();
    for (int i = 0; i < BusyWait::proofs; ++i)
        sleep_for_it(wait, 0ms);
    CHECK(looks(wait));

    CHECK_FALSE(wait.until([] { return false; }));
    wait.came();
    for (int i = 0; i < BusyWait::proofs - 1; ++i)
        sleep_for_it(wait, 0ms);
    sleep_for_it(wait, longest);  // late: all over again
    for (int i = 0; i < BusyWait::proofs; ++i)
        sleep_for_it(wait, 0ms);
    CHECK(looks(wait));
}
