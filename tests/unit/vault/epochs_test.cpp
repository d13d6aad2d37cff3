// When the state is committed to the chip, and what happens if the chip does not take it.
#include "../../../src/vault/anchor.h"
#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

Freshness fresh(Fixture& f) {
    const auto status = f.vault->status();
    REQUIRE(status.freshness);
    return *status.freshness;
}

}  // namespace

TEST_CASE(
    "epochs: after 64 writes, when an instance comes or goes, at the end, and not at a start") {
    Fixture f;
    f.set_up();
    CHECK(fresh(f).epoch == 1);
    const Uuid a = f.made("a");
    CHECK(fresh(f).epoch == 2);
    for (std::uint64_t n = 0; n < 63; ++n)
        f.stored(a, n, "x");
    REQUIRE(fine(f.vault->commit_due()));
    CHECK(fresh(f).epoch == 2);
    CHECK(fresh(f).writes == 63);
    f.stored(a, 63, "x");
    CHECK(fresh(f).epoch == 2);  // the answer does not wait for the chip
    REQUIRE(fine(f.vault->commit_due()));
    CHECK(fresh(f).epoch == 3);
    CHECK(fresh(f).writes == 0);
    CHECK(fresh(f).chip_writes == 3);
    f.stored(a, 64, "x");
    f.close();
    f.reopen_unlocked();
    CHECK(fresh(f).epoch == 4);
    f.close();
    f.reopen_unlocked();
    CHECK(fresh(f).epoch == 4);  // nothing was written: nothing to commit
    REQUIRE(fine(f.vault->remove(a)));
    CHECK(fresh(f).epoch == 5);
}

TEST_CASE("a token takes an hour, whatever the clock says when the bucket is full") {
    for (const std::int64_t now : {0L, 7199L, 7200L, 1'790'000'000L}) {
        INFO(now);
        TokenBucket bucket;
        bucket.refill(now);
        bucket.take();
        bucket.refill(now + TokenBucket::seconds_a_token - 1);
        CHECK(bucket.tokens == TokenBucket::capacity - 1);
        bucket.refill(now + TokenBucket::seconds_a_token);
        CHECK(bucket.tokens == TokenBucket::capacity);
    }
}

TEST_CASE("without tokens the chip is spared") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    std::uint64_t sequence = 0;
    while (fresh(f).tokens > 0) {
        const auto before = fresh(f);
        for (int n = 0; n < 64; ++n)
            sequence = f.stored(a, sequence, "x");
        REQUIRE(fine(f.vault->commit_due()));
        REQUIRE(fresh(f).epoch == before.epoch + 1);
    }
    CHECK(fresh(f).chip_writes == 200);
    const auto before = fresh(f);
    for (int n = 0; n < 200; ++n)
        sequence = f.stored(a, sequence, "x");
    REQUIRE(fine(f.vault->commit_due()));
    CHECK(fresh(f).epoch == before.epoch);
    CHECK(fresh(f).writes == 200);
    (void)f.made("b");  // what has to be committed is, all the same
    CHECK(fresh(f).epoch == before.epoch + 1);
}

TEST_CASE("the chip's answer to a commit is lost") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    const auto before = fresh(f);
    const bool power_fails = GENERATE(false, true);  // later
    SECTION("it was done, and the chip can be asked") {
        f.chip.lose_answer(chip_gone);
        REQUIRE(fine(f.vault->close()));
        CHECK(fresh(f).epoch == before.epoch + 1);
    }
    SECTION("it was not done, and the chip can be asked") {
        f.chip.fail_nth(1, chip_gone);
        CHECK(error_of(f.vault->close()) == Errc::unavailable);
        CHECK(fresh(f).epoch == before.epoch);
        CHECK(f.vault->status().reason->code == Errc::unavailable);
    }
    SECTION("it was not done, and the chip is away") {
        f.chip.refuse(chip_gone);
        CHECK(error_of(f.vault->close()) == Errc::unavailable);
    }
    SECTION("it was done, and the chip is away afterwards") {
        f.chip.lose_answer(chip_gone);
        f.chip.fail_nth(2, chip_gone);
        CHECK(error_of(f.vault->close()) == Errc::unavailable);
    }
    // Writes go on, and are good whichever it was.
    f.stored(a, 1, "two");
    f.stored(a, 2, "three");
    f.chip.refuse({});
    if (!power_fails) {
        REQUIRE(fine(f.vault->close()));
        CHECK(fresh(f).epoch >= before.epoch + 1);
        CHECK(fresh(f).writes == 0);
    }
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "three");
    const auto status = f.vault->status();
    INFO((status.reason ? status.reason->context : ""));
    CHECK_FALSE(status.reason);
}

TEST_CASE("what must not wait is committed as soon as the chip takes it") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    const auto before = fresh(f);
    f.chip.fail_nth(1, Error{Errc::chip, NextAction::retry_later, "the chip spares its memory"});
    REQUIRE(fine(f.vault->remove(a)));
    CHECK(fresh(f).epoch == before.epoch);
    REQUIRE(f.vault->status().reason);
    REQUIRE(fine(f.vault->close()));
    CHECK(fresh(f).epoch == before.epoch + 1);
}
