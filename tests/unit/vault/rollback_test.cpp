// Older states, whole or in part, put back while the host was off; power cuts around a commit.
#include "image.h"
#include "vtpm/base/uuid.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

namespace {

Freshness fresh(Fixture& f) {
    const auto status = f.vault->status();
    REQUIRE(status.freshness);
    return *status.freshness;
}

void check_rolled_back(Fixture& f) {
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::rolled_back);
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(f.vault->status().reason->next == NextAction::ask_operator);
}

const Error gone{Errc::unavailable, NextAction::retry_later, "gone"};

}  // namespace

TEST_CASE("an older copy of one instance, whole or in part, is not served") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "one");
    f.stored(b, 0, "state of b");
    f.close();
    const Bytes before = slurp(f.database());
    f.reopen_unlocked();
    f.stored(a, 1, "two");
    f.close();
    const fs::path old = f.temporary.path() / "old.db";
    spit(old, before);
    const std::string attach = "ATTACH '" + old.string() + "' AS old; ";

    SECTION("the record only") {
        sql(f.database(), attach + "REPLACE INTO records SELECT * FROM old.records WHERE id = 5");
        f.reopen_unlocked();
        CHECK(error_of(f.vault->load(a)) == Errc::corrupt);
        CHECK(f.loaded(b) == "state of b");
    }
    SECTION("the row only") {
        sql(f.database(),
            attach + "REPLACE INTO instances SELECT * FROM old.instances WHERE id = 1");
        f.reopen();
        CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    }
    SECTION("row and record") {
        sql(f.database(), attach +
                              "REPLACE INTO instances SELECT * FROM old.instances WHERE id = 1;"
                              "REPLACE INTO records SELECT * FROM old.records WHERE id = 5");
        f.reopen();
        CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
        CHECK(error_of(f.vault->load(a)) == Errc::locked);
    }
    SECTION("the MAC of the table only") {
        sql(f.database(), attach + "REPLACE INTO total SELECT * FROM old.total");
        f.reopen();
        CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    }
}

TEST_CASE("after an orderly end no older state of the directory is served") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    std::vector<Image> older;
    for (std::uint64_t n = 0; n < 5; ++n) {
        f.stored(a, n, "state " + std::to_string(n));
        f.vault.reset();  // a power cut
        older.emplace_back(f.directory());
        f.reopen_unlocked();
        f.vault.reset();
        older.emplace_back(f.directory());
        f.reopen_unlocked();
    }
    f.stored(a, 5, "the newest");
    f.close();
    const Image newest(f.directory());
    for (const auto& image : older) {
        image.put_back();
        check_rolled_back(f);
    }
    newest.put_back();
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "the newest");
}

TEST_CASE("what was there before the last start is old, however the manager ended") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.vault.reset();
    const Image before(f.directory());
    f.reopen_unlocked();
    f.stored(a, 1, "two");
    f.vault.reset();
    before.put_back();
    check_rolled_back(f);
}

TEST_CASE("the window is the open epoch's writes, and a suffix of them") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "a 1");
    f.vault.reset();
    const Image inside(f.directory());
    f.reopen_unlocked();
    f.close();

    SECTION("an older write of the same epoch passes") {
        f.reopen_unlocked();
        const auto before = fresh(f);
        f.stored(a, 1, "a 2");
        const Image later(f.directory());  // under the running manager
        f.stored(a, 2, "a 3");
        CHECK(fresh(f).epoch == before.epoch);
        CHECK(fresh(f).writes == 2);
        f.vault.reset();
        later.put_back();
        f.reopen_unlocked();
        CHECK(f.loaded(a) == "a 2");
    }
    SECTION("one of an earlier epoch does not") {
        inside.put_back();
        check_rolled_back(f);
    }
    CHECK(fine(f.vault->status().phase == Phase::open ? f.vault->load(b).map([](auto&&) {})
                                                      : Result<void>{}));
}

TEST_CASE("a mix of old and new files is no state of ours") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.close();
    const Bytes old_database = slurp(f.database());
    f.reopen_unlocked();
    f.stored(a, 1, "two");
    const Bytes log = slurp(f.directory() / "vault.db-wal");  // with one of two writes
    f.stored(a, 2, "three");
    f.close();
    const Bytes new_database = slurp(f.database());

    SECTION("an old database") {
        spit(f.database(), old_database);
    }
    SECTION("an old database with a newer log") {
        spit(f.database(), old_database);
        spit(f.directory() / "vault.db-wal", log);
    }
    SECTION("a new database with an older log") {
        spit(f.directory() / "vault.db-wal", log);
    }
    SECTION("without its log, while there should be one") {
        f.reopen_unlocked();
        f.stored(a, 3, "four");
        REQUIRE(fine(f.vault->close()));
        spit(f.temporary.path() / "aside", slurp(f.database()));
        f.vault.reset();
        fs::remove(f.directory() / "vault.db-wal");
        spit(f.database(), new_database);
    }
    f.reopen();
    const auto unlocked = f.vault->unlock();
    REQUIRE_FALSE(unlocked);
    CHECK((unlocked.error().code == Errc::rolled_back || unlocked.error().code == Errc::corrupt));
    CHECK(f.vault->status().phase == Phase::locked);
}

TEST_CASE("a deleted instance does not come back") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.vault.reset();
    const Image with_it(f.directory());
    f.reopen_unlocked();
    REQUIRE(fine(f.vault->remove(a)));
    f.vault.reset();
    with_it.put_back();
    check_rolled_back(f);
}

TEST_CASE("an anchor that was prepared and never committed is worth nothing later") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.chip.fail_nth(1, gone);
    CHECK_FALSE(f.vault->close());
    f.vault.reset();
    const Image prepared(f.directory());
    f.reopen_unlocked();  // commits anew
    f.stored(a, 1, "two");
    f.close();
    prepared.put_back();
    check_rolled_back(f);
}

TEST_CASE("the cell is lost, replaced, rolled back, or extended by somebody else") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    const auto old_memory = f.chip.memory();
    for (std::uint64_t n = 1; n < 3; ++n) {
        f.stored(a, n, "newer");
        f.close();
        f.reopen_unlocked();
    }
    Errc expected = Errc::rolled_back;
    SECTION("removed") {
        f.chip.memory()[0].defined = false;
        expected = Errc::wrong_cell;
    }
    SECTION("made anew by the owner, who does not know its authorization value") {
        f.chip.memory()[0].auth = {};
        f.chip.memory()[0].extends = 0;
        expected = Errc::wrong_cell;
    }
    SECTION("an older image of the chip's memory") {
        f.chip.memory() = old_memory;
    }
    SECTION("extended") {
        f.chip.memory()[0].values[0][0] ^= 1U;
        f.chip.memory()[0].values[1][0] ^= 1U;
    }
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == expected);
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(error_of(f.vault->load(a)) == Errc::locked);
}

TEST_CASE("a cell that somebody extends under a running vault stops it") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.chip.memory()[0].values[0][0] ^= 1U;
    f.chip.memory()[0].values[1][0] ^= 1U;
    CHECK(error_of(f.vault->close()) == Errc::rolled_back);
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(error_of(f.vault->store(a, 1, permanent("two"))) == Errc::locked);
}

TEST_CASE("a cell that is lost under a running vault stops it, and can be made anew") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    f.chip.memory()[0].defined = false;
    CHECK(error_of(f.vault->close()) == Errc::wrong_cell);
    CHECK(f.vault->status().phase == Phase::locked);
    REQUIRE(fine(f.vault->recover(outcome->recovery_key_pem)));
    CHECK(f.loaded(a) == "one");
}

TEST_CASE("a setup that fails gives the cell back") {
    Fixture f;
    for (int nth = 1;; ++nth) {
        f.chip.fail_nth(nth, gone);
        const auto done = f.vault->setup({});
        f.chip.fail_nth(0, gone);
        if (done)
            break;
        INFO("call " << nth);
        CHECK(f.vault->status().phase == Phase::not_set_up);
        const auto& memory = f.chip.memory();
        CHECK(std::none_of(memory.begin(), memory.end(), [](const auto& c) { return c.defined; }));
        REQUIRE(nth < 100);
    }
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.vault->status().freshness);
}
