// A host's guests that all start at once, as after its boot.

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int guests = 100;
constexpr auto libxl_patience = 10s;

struct Starter {
    Starter(SimHost& host, xen::DomainId domain)
        : uuid(host.create(tpm::Version::v2_0)), guest(host, domain, uuid) {}
    Uuid uuid;
    SimGuest guest;
    Clock::time_point plugged;
    std::chrono::milliseconds waited{-1};
};

}  // namespace

TEST_CASE("a hundred guests that start at once are served within libxl's 10 s") {
    const NoProcessLeft first;
    SimHost host;
    std::vector<std::unique_ptr<Starter>> starters;
    for (int i = 1; i <= guests; ++i)
        starters.push_back(std::make_unique<Starter>(host, static_cast<xen::DomainId>(i)));

    for (auto& starter : starters) {
        starter->plugged = Clock::now();
        starter->guest.plug();
        starter->guest.start_vtpmd();
    }
    // Each from its own beginning on: that is where libxl counts from.
    for (int waiting = guests; waiting > 0;) {
        waiting = 0;
        for (auto& starter : starters) {
            if (starter->waited >= 0ms)
                continue;
            const auto now = Clock::now();
            if (starter->guest.state() == "2") {
                starter->waited =
                    std::chrono::duration_cast<std::chrono::milliseconds>(now - starter->plugged);
            } else {
                INFO("domain " << starter->guest.domain() << ": " << starter->guest.refusal());
                REQUIRE(now - starter->plugged < libxl_patience);
                ++waiting;
            }
        }
        std::this_thread::sleep_for(1ms);
    }
    std::chrono::milliseconds longest{0};
    for (const auto& starter : starters)
        longest = std::max(longest, starter->waited);
    WARN("the longest of " << guests << " waited " << longest.count() << " ms");
    for (auto& starter : starters)
        REQUIRE(starter->guest.offer());
    for (auto& starter : starters)
        CHECK(run(starter->guest, v20::get_random(8)) == success);
    for (auto& starter : starters)
        CHECK(starter->guest.destroy());
    CHECK(host.status().in_use() == 0);
}
