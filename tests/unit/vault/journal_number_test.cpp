#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a line of the journal with a number that nobody reaches moves no other line") {
    Fixture f;
    f.set_up();
    f.made("a");
    const auto before = f.vault->journal(0, 100);
    REQUIRE(fine(before));
    f.close();
    const std::string number = GENERATE("9223372036854775807", "-9223372036854775808");
    sql(f.database(), "INSERT INTO journal SELECT " + number +
                          ", at, actor, action, subject, previous, mac, kin, other FROM journal"
                          " WHERE id = 1");

    f.reopen_unlocked();
    f.made("b");
    const auto after = f.vault->journal(0, 100);
    REQUIRE(fine(after));
    REQUIRE(after->size() > before->size());
    for (std::size_t i = 0; i < before->size(); ++i) {
        CHECK(after->at(i).number == i + 1);
        CHECK(after->at(i).sound);
    }
    CHECK(after->at(before->size()).sound);  // that b was made
    CHECK(after->at(before->size()).action == "create");
}

TEST_CASE("a line that is longer than any of ours is cut, and not sound") {
    Fixture f;
    f.set_up();
    f.made("a");
    f.close();
    sql(f.database(), "UPDATE journal SET subject = hex(zeroblob(500000)) WHERE id = 1");
    f.reopen_unlocked();
    const auto events = f.vault->journal(0, 100);
    REQUIRE(fine(events));
    CHECK(events->front().subject.size() == 512);
    CHECK_FALSE(events->front().sound);
}
