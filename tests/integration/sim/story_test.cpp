// What vtpmctl show can tell of a TPM's power cycle.
#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;

namespace {

wire::proto::Story story_of(Bench& b) {
    return b.host.show(b.uuid).story();
}

// vtpmd tells what its engine has told it, which a guest may be ahead of.
wire::proto::Story story_when(Bench& b, const std::function<bool(const wire::proto::Power&)>& it) {
    for (int n = 0; n < 100 && !it(story_of(b).power()); ++n)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return story_of(b);
}

}  // namespace

TEST_CASE("the story of a power cycle: its beginning, its engines, their hand-overs") {
    Bench b;
    CHECK_FALSE(b.host.show(b.uuid).has_story());
    boot(b.guest);
    REQUIRE(run(b.guest, v20::nv_define(4)) == success);
    auto story = story_when(b, [](const auto& power) { return power.engines() == 1; });
    CHECK_FALSE(story.over());
    CHECK(story.domain() == 5);
    CHECK(story.held() > 0);
    CHECK(story.writes() >= 1);
    CHECK(story.power().beginning() == "created");
    CHECK(story.power().since() >= story.held() - 1);
    CHECK(story.power().engines() == 1);
    CHECK(story.power().why() == "the guest was started");
    CHECK(story.power().handed_over() == 0);
    CHECK_FALSE(story.power().failed());
    const auto since = story.power().since();

    REQUIRE(b.guest.connect());  // its driver was reloaded
    REQUIRE(run(b.guest, v20::get_random(8)) == success);
    story = story_when(b, [](const auto& power) { return power.handed_over() > 0; });
    CHECK(story.power().engines() == 2);
    CHECK(story.power().since() == since);
    CHECK(story.power().handed_over() >= since);
    CHECK(story.power().handover_why() == "the guest connected anew");

    // A manager that is restarted hears of it again.
    b.host.kill_manager();
    b.host.start_manager();
    for (int n = 0; n < 100 && !b.host.show(b.uuid).in_use(); ++n)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    story = story_of(b);
    CHECK(story.power().engines() == 2);
    CHECK(story.power().since() == since);
    CHECK(story.power().handover_why() == "the guest connected anew");

    ::kill(b.guest.engine_pid(), SIGKILL);
    CHECK(run(b.guest, v20::get_random(8)) == failure_mode);
    story = story_when(b, [](const auto& power) { return power.failed(); });
    CHECK(story.power().failed());
    CHECK(story.power().engines() == 3);
    CHECK(story.power().why() == "its engine died");
    CHECK(b.guest.destroy());
    for (int n = 0; n < 100 && b.host.show(b.uuid).in_use(); ++n)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    CHECK(story_of(b).over());
    CHECK(story_of(b).released() > 0);

    SimGuest next(b.host, 6, b.uuid);
    boot(next);
    story = story_when(b, [](const auto& power) { return power.engines() == 1; });
    CHECK(story.domain() == 6);
    CHECK(story.power().engines() == 1);
    CHECK_FALSE(story.power().failed());
    CHECK(story.writes() <= 2);
    CHECK(next.destroy());
}

TEST_CASE("a guest that has not connected yet, and a manager that was away") {
    Bench b;
    b.guest.plug();
    b.guest.start_vtpmd();
    REQUIRE(b.guest.announced());
    auto story = story_of(b);
    CHECK(story.has_power());
    CHECK(story.power().engines() == 0);
    REQUIRE(b.guest.connect());
    REQUIRE(run(b.guest, v20::get_random(8)) == success);
    // What could not be started is no engine.
    b.host.kill_manager();
    ::kill(b.guest.engine_pid(), SIGKILL);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    b.host.start_manager();
    CHECK(run(b.guest, v20::get_random(8)) == failure_mode);
    story = story_when(b, [](const auto& power) { return power.failed(); });
    CHECK(story.power().failed());
    CHECK(story.power().engines() == 2);
    CHECK(b.guest.destroy());
}

TEST_CASE("a TPM that comes to a guest that runs already has no record of its boot") {
    Bench b;
    b.guest.plug();
    b.host.xen().set_domain(5, "running");
    b.guest.start_vtpmd();
    REQUIRE(b.guest.announced());
    REQUIRE(b.guest.connect());
    REQUIRE(run(b.guest, v20::get_random(8)) == success);
    CHECK(story_of(b).power().beginning() == "attached");
    CHECK(story_of(b).power().why() == "the TPM was attached to a running guest");
    CHECK(b.guest.destroy());
}

TEST_CASE("a restored guest's TPM says that it goes on") {
    Bench b;
    boot(b.guest);
    const auto file = b.guest.save();
    REQUIRE(file > 1);
    SimGuest restored(b.host, 6, b.uuid);
    restored.restore_from(file);
    boot(restored);
    REQUIRE(run(restored, v20::get_random(8)) == success);
    const auto power =
        story_when(b, [](const auto& told) { return told.handed_over() > 0; }).power();
    CHECK(power.beginning() == "restored");
    CHECK(power.handed_over() > 0);
    CHECK(power.handover_why() == "the guest was restored");
    CHECK(restored.destroy());
}
