#include "stories.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::manager;

namespace {

wire::proto::Power power(std::int64_t since, std::uint32_t engines, const std::string& why = "") {
    wire::proto::Power power;
    power.set_since(since);
    power.set_beginning(since == 0 ? "" : "created");
    power.set_engines(engines);
    power.set_why(why);
    return power;
}

struct Told {
    Stories stories;
    Uuid uuid = Uuid::random();

    void opened(GuestDevice guest, std::uint64_t sequence, const wire::proto::Power& power) {
        stories.opened(uuid, guest, sequence);
        stories.told(uuid, sequence, power);
    }
    wire::proto::Story story(std::uint64_t sequence = 10, bool held = true) {
        const auto* const found = stories.find(uuid);
        REQUIRE(found != nullptr);
        wire::proto::Story out;
        describe(*found, sequence, held, out);
        return out;
    }
};

}  // namespace

TEST_CASE("a story begins with its holder, and is another's with another") {
    Told t;
    CHECK(t.stories.find(t.uuid) == nullptr);
    t.stories.told(t.uuid, 3, power(100, 1));  // by nobody who holds it
    CHECK(t.stories.find(t.uuid) == nullptr);
    t.opened({5, 0}, 4, power(0, 0));
    CHECK(t.story().power().engines() == 0);
    t.stories.told(t.uuid, 4, power(100, 1, "start"));
    t.stories.told(t.uuid, 9, power(100, 2, "again"));
    CHECK(t.story().power().engines() == 2);
    CHECK(t.story().power().why() == "again");
    CHECK(t.story().writes() == 6);
    CHECK_FALSE(t.story().over());
    t.stories.released(t.uuid, 10);
    CHECK(t.story(20, false).over());
    CHECK(t.story(20, false).writes() == 6);
    CHECK(t.story(20, false).released() > 0);
    t.opened({6, 0}, 20, power(0, 0));
    CHECK(t.story(20).power().engines() == 0);
    CHECK(t.story(20).domain() == 6);
    CHECK(t.story(20).writes() == 0);
}

TEST_CASE("a vtpmd that says nothing is not one without an engine") {
    Told t;
    t.stories.opened(t.uuid, {5, 0}, 4);
    CHECK(t.story().domain() == 5);
    CHECK_FALSE(t.story().has_power());
    t.stories.told(t.uuid, 4, power(0, 0));
    CHECK(t.story().has_power());
    // Its successor for another guest says nothing again.
    t.stories.opened(t.uuid, {6, 0}, 4);
    CHECK_FALSE(t.story().has_power());
}

TEST_CASE("a vtpmd that was restarted goes on with the story") {
    Told t;
    t.opened({5, 0}, 4, power(0, 0));
    t.stories.told(t.uuid, 4, power(100, 3));
    t.stories.released(t.uuid, 6);
    t.opened({5, 0}, 6, power(0, 0));
    CHECK(t.story().released() == 0);
    t.stories.told(t.uuid, 6, power(0, 1, "vtpmd was restarted"));
    CHECK(t.story().power().engines() == 4);
    CHECK(t.story().power().since() == 100);
    CHECK(t.story().power().beginning() == "created");
    CHECK(t.story().writes() == 6);
    // The same engine, with another channel.
    t.opened({5, 0}, 6, power(0, 1));
    t.stories.told(t.uuid, 6, power(0, 1));
    CHECK(t.story().power().engines() == 4);
    // The device was detached and attached again.
    t.stories.told(t.uuid, 8, power(200, 1));
    CHECK(t.story().power().engines() == 1);
    CHECK(t.story().writes() == 2);
}

TEST_CASE("a manager that was restarted believes what it is told") {
    Told t;
    auto now = power(100, 3);
    now.set_handed_over(150);
    now.set_handover_why("why");
    now.set_failed(true);
    t.opened({5, 0}, 4, now);
    t.stories.told(t.uuid, 4, now);
    CHECK(t.story().power().engines() == 3);
    CHECK(t.story().power().handed_over() == 150);
    CHECK(t.story().power().failed());
}

TEST_CASE("words of a story are short, and steer no terminal") {
    Told t;
    t.opened({5, 0}, 4, power(100, 1, std::string(5000, 'x')));
    CHECK(t.story().power().why().size() == 200);
    t.stories.told(t.uuid, 4, power(100, 1, "\x1b[2J"));
    CHECK(t.story().power().why() == "?[2J");
}
