// The journal's two kinds of lines: what each keeps, and what is noticed of lines that are missing.
#include "../../../src/vault/journal.h"

#include <algorithm>

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

constexpr auto operators = Journal::Kind::operators;
constexpr auto guests = Journal::Kind::guests;
constexpr Journal::Room small{100, 20};

// A journal in a database of its own, without a vault around it.
struct JournalFixture {
    Fixture vault;
    std::unique_ptr<Database> database;
    SecretBytes key = secret_of("0123456789abcdef0123456789abcdef");
    Uuid manager = Uuid::random();
    std::optional<Journal> journal;
    Hash last{};

    JournalFixture() {
        vault.set_up();
        vault.close();
        sql(vault.database(), "DELETE FROM journal");
        open();
    }
    void open() {
        database = Database::open(vault.database()).value();
        journal.emplace(*database, key, manager, small);
    }
    void add(Journal::Kind kind, const std::string& action) {
        Event event;
        event.action = action;
        const auto line = journal->next(event, last, kind);
        REQUIRE(fine(line));
        REQUIRE(fine(journal->write(*line)));
        last = line->mac;
    }
    void add(int count, Journal::Kind kind, const std::string& action) {
        run("BEGIN");
        for (int i = 0; i < count; ++i)
            add(kind, action);
        run("COMMIT");
    }
    void run(const std::string& statement) const { REQUIRE(fine(database->run(statement))); }
    // Read in pages of that size.
    std::vector<Event> read(std::size_t page = 1000) {
        std::vector<Event> all;
        for (;;) {
            const auto some = journal->read(all.empty() ? 0 : all.back().number, page, last);
            REQUIRE(fine(some));
            if (some->empty())
                return all;
            all.insert(all.end(), some->begin(), some->end());
        }
    }
    void change(const std::string& statement) {
        journal.reset();
        database.reset();
        sql(vault.database(), statement);
        open();
    }
};

std::size_t count_of(const std::vector<Event>& lines, std::string_view action) {
    return static_cast<std::size_t>(std::count_if(
        lines.begin(), lines.end(), [&](const Event& line) { return line.action == action; }));
}

std::size_t unsound(const std::vector<Event>& lines) {
    return static_cast<std::size_t>(
        std::count_if(lines.begin(), lines.end(), [](const Event& line) { return !line.sound; }));
}

// As a program of before format 7 has left them: one chain over the lines of both kinds.
void write_as_before(JournalFixture& f, int count) {
    const SecretBytes key = derive_journal_key(f.key);
    std::string statements;
    Hash previous{};
    for (int id = 1; id <= count; ++id) {
        const std::string action = id % 3 == 0 ? "open" : "create";
        const Bytes text = ByteWriter()
                               .sized(as_bytes("xen-vtpm journal line"))
                               .bytes(f.manager.bytes())
                               .u64(static_cast<std::uint64_t>(id))
                               .u64(5)
                               .sized(as_bytes("root"))
                               .sized(as_bytes(action))
                               .sized(as_bytes("web1"))
                               .bytes(previous)
                               .take();
        const Hash mac = hmac_sha256(key.view(), text);
        statements += "INSERT INTO journal(id, at, actor, action, subject, previous, mac) VALUES(" +
                      std::to_string(id) + ", 5, 'root', '" + action + "', 'web1', x'" +
                      to_hex(previous) + "', x'" + to_hex(mac) + "');";
        previous = mac;
    }
    f.change(statements);
    f.last = previous;
}

}  // namespace

TEST_CASE("a guest that starts again and again pushes out no operator's line") {
    JournalFixture f;
    f.add(operators, "setup");
    f.add(operators, "create");
    f.add(1000, guests, "open");
    f.add(operators, "rename");
    f.add(1000, guests, "open");
    auto lines = f.read();
    CHECK(unsound(lines) == 0);
    CHECK(lines.at(0).action == "setup");
    CHECK(lines.at(1).action == "create");
    CHECK(lines.at(2).action == "rename");
    const auto opens = count_of(lines, "open");
    CHECK(opens >= 20);
    CHECK(opens < 20 + Journal::some);
    CHECK(lines.back().number == 2003);

    // And the other way round; each kind makes room for itself only.
    f.add(1000, operators, "policy");
    lines = f.read();
    CHECK(unsound(lines) == 0);
    CHECK(count_of(lines, "open") == opens);
    CHECK(count_of(lines, "setup") == 0);
    const auto policies = count_of(lines, "policy");
    CHECK(policies >= 100);
    CHECK(policies < 100 + Journal::some);
    for (const std::size_t page : {1U, 2U, 7U, 50U})
        CHECK(unsound(f.read(page)) == 0);
    CHECK(f.read(3).size() == lines.size());
    // From anywhere.
    for (const std::uint64_t after : {1U, 1003U, 2000U, 2003U, 2004U, 3002U}) {
        const auto some = f.journal->read(after, 1000, f.last);
        REQUIRE(fine(some));
        CHECK(unsound(*some) == 0);
    }
}

TEST_CASE("each line that is missing or changed is noticed, however many have gone by themselves") {
    JournalFixture f;
    f.add(operators, "setup");
    f.add(200, guests, "open");
    for (int i = 0; i < 5; ++i) {
        f.add(operators, "create");
        f.add(3, guests, "open");
    }
    if (GENERATE(false, true))
        f.add(300, operators, "policy");
    const auto lines = f.read();
    REQUIRE(unsound(lines) == 0);
    const auto id_of = [&](std::size_t at) { return std::to_string(lines.at(at).number); };
    const auto noticed = [&](const std::string& statement) {
        const Hash last = f.last;
        f.run("BEGIN");
        f.run(statement);
        const bool at_once = unsound(f.read()) > 0 && unsound(f.read(5)) > 0;
        // A line that follows does not make it good.
        f.add(guests, "open");
        f.add(operators, "create");
        const bool later = unsound(f.read()) > 0;
        f.run("ROLLBACK");
        f.last = last;
        return at_once && later;
    };
    std::size_t spare = 0;
    for (std::size_t at = 0; at < lines.size(); ++at) {
        INFO(lines[at].number << " " << lines[at].action);
        // The oldest of a kind is missed only if it is one of those that are kept for sure.
        const std::string of_its_kind = lines[at].action == "open" ? "kin < 0" : "kin > 0";
        const auto follow = std::count_if(
            lines.begin() + static_cast<long>(at), lines.end(), [&](const Event& line) {
                return (line.action == "open") == (lines[at].action == "open");
            });
        if (follow > (lines[at].action == "open" ? small.guests : small.operators)) {
            ++spare;
            CHECK_FALSE(
                noticed("DELETE FROM journal WHERE id <= " + id_of(at) + " AND " + of_its_kind));
        } else {
            CHECK(noticed("DELETE FROM journal WHERE id = " + id_of(at)));
        }
    }
    CHECK(spare > 0);
    CHECK(spare < 2 * Journal::some);
    CHECK(noticed("DELETE FROM journal WHERE kin > 0"));
    CHECK(noticed("DELETE FROM journal WHERE kin < 0"));
    CHECK(noticed("DELETE FROM journal WHERE id > " + id_of(lines.size() / 2)));
    const std::string one = " WHERE id = " + id_of(lines.size() - 3);
    CHECK(noticed("UPDATE journal SET kin = -kin" + one));
    CHECK(noticed("UPDATE journal SET other = zeroblob(40)" + one));
    CHECK(noticed("UPDATE journal SET other = x'00'" + one));
    CHECK(noticed("UPDATE journal SET kin = NULL, other = NULL" + one));
    CHECK(noticed("UPDATE journal SET kin = NULL, other = NULL"));
    CHECK(noticed("UPDATE journal SET kin = 9223372036854775807" + one));
    CHECK(noticed("UPDATE journal SET id = id + 1000" + one));
}

TEST_CASE("lines of before format 7 are as sound as they were, and go on as operators'") {
    JournalFixture f;
    write_as_before(f, 30);
    CHECK(f.read().size() == 30);
    CHECK(unsound(f.read()) == 0);
    f.add(guests, "open");
    f.add(operators, "create");
    f.add(300, guests, "open");
    f.add(operators, "create");
    CHECK(unsound(f.read()) == 0);
    CHECK(unsound(f.read(3)) == 0);
    CHECK(f.read().front().number == 1);
    SECTION("until there are as many as are kept") {
        f.add(300, operators, "policy");
        const auto lines = f.read();
        CHECK(unsound(lines) == 0);
        CHECK(count_of(lines, "create") == 0);
    }
    SECTION("one is missing") {
        const auto id = GENERATE(1, 2, 3, 29, 30);
        f.change("DELETE FROM journal WHERE id = " + std::to_string(id));
        CHECK(unsound(f.read()) > 0);
    }
}

TEST_CASE("what a guest's start writes is of the guests' kind, and nothing else is") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    REQUIRE(fine(f.vault->note("open", a)));
    REQUIRE(fine(f.vault->rename(a, "b")));
    f.close();
    CHECK(blob(f.database(), "SELECT group_concat(action || kin) FROM journal WHERE kin < 0") ==
          Bytes({'o', 'p', 'e', 'n', '-', '1'}));
}
