// Several stores at once, and stores that are acknowledged only when the chip knows them.
#include <list>

#include "fixture.h"
#include "small_files.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

namespace {

// Requests that own what they lend.
class Requests {
  public:
    void add(const Uuid& uuid, std::uint64_t expected, std::string_view text) {
        add(uuid, expected, permanent(text));
    }
    void add(const Uuid& uuid, std::uint64_t expected, std::vector<BlobChange> changes) {
        changes_.push_back(std::move(changes));
        requests_.push_back({uuid, expected, changes_.back()});
    }
    operator std::span<const StoreRequest>() const { return requests_; }

  private:
    std::list<std::vector<BlobChange>> changes_;
    std::vector<StoreRequest> requests_;
};

Uuid synced(Fixture& f, const std::string& name) {
    const auto made = f.vault->create({name, 2, {}, {}, true});
    REQUIRE(fine(made));
    return made->uuid;
}

std::uint64_t chip_writes(Fixture& f) {
    return f.vault->status().freshness->chip_writes;
}

}  // namespace

TEST_CASE("a batch: the good are stored, the bad are refused, each for its own reason") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    const Uuid c = f.made("c");
    const Uuid d = f.made("d");
    f.stored(b, 0, "b one");
    f.stored(c, 0, "c one");
    f.close();
    sql(f.database(), "UPDATE instances SET name = 'changed' WHERE name = 'd'");
    f.reopen_unlocked();
    const auto writes = f.vault->status().freshness->writes;

    Requests batch;
    batch.add(a, 0, "a one");
    batch.add(Uuid::random(), 0, "of nobody");
    batch.add(b, 7, "out of order");
    batch.add(c, 0, "c one");  // the repeat of one that was acknowledged
    batch.add(d, 0, "in quarantine");
    batch.add(b, 1, std::vector<BlobChange>());
    batch.add(b, 1, "b two");
    const auto answers = f.vault->store_all(batch);
    REQUIRE(answers.size() == 7);
    CHECK(answers[0] == 1);
    CHECK(error_of(answers[1]) == Errc::not_found);
    CHECK(error_of(answers[2]) == Errc::out_of_order);
    CHECK(answers[3] == 1);
    CHECK(error_of(answers[4]) == Errc::corrupt);
    CHECK(error_of(answers[5]) == Errc::invalid_argument);
    CHECK(answers[6] == 2);
    CHECK(f.vault->status().freshness->writes == writes + 2);
    for (int i = 0; i < 2; ++i) {
        CHECK(f.loaded(a) == "a one");
        CHECK(f.loaded(b) == "b two");
        CHECK(f.loaded(c) == "c one");
        f.reopen_unlocked();
    }
    CHECK(f.vault->store_all({}).empty());
}

TEST_CASE("one instance several times in a batch: as if one after another") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    Requests batch;
    batch.add(a, 0, "one");
    batch.add(a, 0, "one");  // repeated
    batch.add(a, 0, "another");
    batch.add(b, 0, "b");
    batch.add(a, 1, "two");
    batch.add(a, 1, "two");
    batch.add(a, 0, "one");
    const auto answers = f.vault->store_all(batch);
    REQUIRE(answers.size() == 7);
    CHECK(answers[0] == 1);
    CHECK(answers[1] == 1);
    CHECK(error_of(answers[2]) == Errc::out_of_order);
    CHECK(answers[3] == 1);
    CHECK(answers[4] == 2);
    CHECK(answers[5] == 2);
    CHECK(error_of(answers[6]) == Errc::out_of_order);
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "two");
    CHECK(f.stored(a, 2, "three") == 3);
}

TEST_CASE("a batch that the disk does not take has changed nothing, and every answer says so") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "a one");
    f.stored(b, 0, "b one");
    const std::string big(200UL * 1024, 'x');
    Requests batch;
    batch.add(a, 1, big);
    batch.add(b, 0, "b one");  // acknowledged before
    batch.add(Uuid::random(), 0, "of nobody");
    batch.add(b, 1, "b two");
    batch.add(b, 1, "b two");

    const auto refused = with_small_files(64UL * 1024, [&] { return f.vault->store_all(batch); });

    REQUIRE(refused.size() == 5);
    CHECK(error_of(refused[0]) == Errc::io);
    CHECK(refused[1] == 1);
    CHECK(error_of(refused[2]) == Errc::not_found);
    CHECK(error_of(refused[3]) == Errc::io);
    CHECK(error_of(refused[4]) == Errc::io);
    CHECK(f.vault->get(a)->sequence == 1);
    CHECK(f.loaded(a) == "a one");
    CHECK(f.loaded(b) == "b one");
    const auto accepted = f.vault->store_all(batch);
    CHECK(accepted[0] == 2);
    CHECK(accepted[4] == 2);
    f.reopen_unlocked();
    CHECK(f.loaded(a) == big);
    CHECK(f.loaded(b) == "b two");
}

TEST_CASE("with sync no answer comes before the chip knows; one commit for a batch") {
    Fixture f;
    f.set_up();
    const Uuid a = synced(f, "a");
    const Uuid b = synced(f, "b");
    const Uuid c = f.made("c");
    CHECK(f.vault->get(a)->sync);
    CHECK_FALSE(f.vault->get(c)->sync);
    auto before = chip_writes(f);
    f.stored(c, 0, "c one");
    CHECK(chip_writes(f) == before);
    f.stored(a, 0, "a one");
    CHECK(chip_writes(f) == before + 1);
    CHECK(f.vault->status().freshness->writes == 0);
    Requests batch;
    batch.add(a, 1, "a two");
    batch.add(c, 1, "c two");
    batch.add(b, 0, "b one");
    for (const auto& answer : f.vault->store_all(batch))
        CHECK(fine(answer));
    CHECK(chip_writes(f) == before + 2);
    f.vault->store_all(batch);  // repeats of what is known
    CHECK(chip_writes(f) == before + 2);
    f.reopen_unlocked();
    CHECK(f.vault->get(a)->sync);
}

TEST_CASE("with sync a copy from just before the last write is refused") {
    Fixture f;
    f.set_up();
    const bool sync = GENERATE(true, false);
    const Uuid a = sync ? synced(f, "a") : f.made("a");
    f.stored(a, 0, "one");
    const auto log = f.directory() / "vault.db-wal";
    const Bytes old_database = slurp(f.database());
    const Bytes old_log = slurp(log);
    f.stored(a, 1, "two");
    f.vault.reset();
    spit(f.database(), old_database);
    spit(log, old_log);
    fs::permissions(log, fs::perms::owner_read | fs::perms::owner_write);
    f.reopen();
    const auto unlocked = f.vault->unlock();
    // Without sync an epoch is open, in which the one write cannot be told from the other.
    CHECK(error_of(unlocked) == (sync ? std::optional(Errc::rolled_back) : std::nullopt));
}

TEST_CASE("with sync, and a chip that does not answer") {
    Fixture f;
    f.set_up();
    const Uuid a = synced(f, "a");
    const Uuid c = f.made("c");
    f.stored(a, 0, "one");
    const bool taken = GENERATE(false, true);
    if (taken) {
        f.chip.lose_answer(chip_gone);
        f.chip.fail_nth(2, chip_gone);  // and nobody can ask it
    } else {
        f.chip.refuse(chip_gone);
    }
    Requests batch;
    batch.add(a, 1, "two");
    batch.add(c, 0, "c one");
    const auto answers = f.vault->store_all(batch);
    CHECK(error_of(answers[0]) == Errc::unavailable);
    CHECK(answers[0].error().next == NextAction::retry_later);
    CHECK(answers[1] == 1);  // which did not ask for more than the disk
    f.chip.refuse(chip_gone);
    CHECK(error_of(f.vault->store(a, 1, permanent("two"))) == Errc::unavailable);
    CHECK(error_of(f.vault->load(a)) == Errc::unavailable);
    CHECK(f.loaded(c) == "c one");

    SECTION("a repeat when the chip is back") {
        f.chip.refuse({});
        CHECK(f.vault->store(a, 1, permanent("two")) == 2);
        CHECK(f.vault->status().freshness->writes == 0);
        CHECK(f.loaded(a) == "two");
        CHECK(error_of(f.vault->store(a, 1, permanent("else"))) == Errc::out_of_order);
    }
    SECTION("by then it is another write") {
        CHECK(error_of(f.vault->store(a, 1, permanent("three"))) == Errc::unavailable);
        f.chip.refuse({});
        CHECK(f.vault->store(a, 1, permanent("three")) == 2);
        CHECK(f.vault->status().freshness->writes == 0);
        CHECK(f.loaded(a) == "three");
        CHECK(f.stored(a, 2, "four") == 3);
    }
    SECTION("the chip has taken it in the meantime") {
        f.chip.refuse({});
        REQUIRE(fine(f.vault->close()));
        const auto before = chip_writes(f);
        CHECK(f.vault->store(a, 1, permanent("two")) == 2);
        CHECK(chip_writes(f) == before);
        CHECK(f.loaded(a) == "two");
    }
    SECTION("the power fails") {
        f.chip.refuse({});
        f.reopen_unlocked();
        CHECK(f.loaded(a) == "two");
        CHECK(f.vault->store(a, 1, permanent("two")) == 2);
        CHECK(f.loaded(c) == "c one");
    }
    f.close();
    f.reopen_unlocked();
    CHECK(fine(f.vault->load(a)));
    CHECK_FALSE(f.vault->status().reason);
}

TEST_CASE("sync is turned on and off, with a line in the journal") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    REQUIRE(f.vault->status().freshness->writes > 0);
    const auto turned = f.vault->set_sync(a, true);
    REQUIRE(fine(turned));
    CHECK(turned->sync);
    CHECK(f.vault->status().freshness->writes == 0);  // what was before is known as well
    const auto before = chip_writes(f);
    f.stored(a, 1, "two");
    CHECK(chip_writes(f) == before + 1);
    REQUIRE(fine(f.vault->set_sync(a, true)));  // is nothing new
    CHECK(chip_writes(f) == before + 1);
    REQUIRE(fine(f.vault->set_sync(a, false)));
    f.stored(a, 2, "three");
    CHECK(chip_writes(f) == before + 1);
    f.reopen_unlocked();
    CHECK_FALSE(f.vault->get(a)->sync);
    CHECK(f.loaded(a) == "three");
    const auto lines = f.vault->journal(0, 100);
    REQUIRE(fine(lines));
    REQUIRE(lines->size() == 4);
    CHECK(lines->at(2).action == "sync");
    CHECK(lines->at(2).subject == "a (" + a.to_string() + ") on");
    CHECK(lines->at(3).subject == "a (" + a.to_string() + ") off");

    // A chip that does not answer: it is on, which is said, and no answer comes before the proof.
    f.chip.refuse(chip_gone);
    const auto refused = f.vault->set_sync(a, true);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().next == NextAction::retry_later);
    CHECK(refused.error().context.find("sync of instance a is on") != std::string::npos);
    CHECK(error_of(f.vault->store(a, 3, permanent("four"))) == Errc::unavailable);
    f.chip.refuse({});
    CHECK(f.vault->store(a, 3, permanent("four")) == 4);
    CHECK(f.vault->get(a)->sync);
    CHECK(error_of(f.vault->set_sync(Uuid::random(), true)) == Errc::not_found);
}

TEST_CASE("sync is under the row's MAC") {
    Fixture f;
    f.set_up();
    const Uuid a = synced(f, "a");
    f.close();
    sql(f.database(), "UPDATE instances SET sync = 0");
    f.reopen_unlocked();
    CHECK(error_of(f.vault->load(a)) == Errc::corrupt);
}

// What is asked of the file system is asked of the one that is open, not of a name.
TEST_CASE("a store in a directory that got another name is done") {
    Fixture f;
    f.set_up();
    const Uuid uuid = f.made("web1");
    const auto elsewhere = f.temporary.path() / "elsewhere";
    fs::rename(f.directory(), elsewhere);
    const auto done = f.vault->store(uuid, 0, permanent("state"));
    fs::rename(elsewhere, f.directory());
    REQUIRE(fine(done));
    CHECK(f.loaded(uuid) == "state");
}
