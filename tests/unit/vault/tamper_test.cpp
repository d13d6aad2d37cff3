// A hostile or broken disk: whatever is done to the database, what comes out is the right content
// or an error, never other content and never a fresh TPM.
#include <unistd.h>

#include <cstdlib>

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

namespace fs = std::filesystem;

const std::string content_a = "state of a, " + std::string(150, 'a');
const std::string content_b = "state of b, " + std::string(250, 'b');

// Two instances with state, a third that is fresh, a fourth that is deleted.
struct Prepared : Fixture {
    Uuid a, b, fresh, gone;

    Prepared() {
        set_up();
        a = made("a");
        b = made("b");
        fresh = made("fresh");
        gone = made("gone");
        stored(gone, 0, "old");
        REQUIRE(fine(vault->remove(gone)));
        stored(a, 0, "older state of a");
        auto both = permanent(content_a);
        both.push_back({BlobKind::saved, secret_of("saved state of a")});
        REQUIRE(fine(vault->store(a, 1, both)));
        stored(b, 0, content_b);
        close();
    }
};

// Whether one instance gives what it must, or an error. True: the content.
bool judge(SqliteVault& vault, const Uuid& uuid, const std::string& expected,
           std::uint64_t sequence) {
    const auto state = vault.load(uuid);
    if (!state) {
        CHECK((state.error().code == Errc::corrupt || state.error().code == Errc::not_found ||
               state.error().code == Errc::io));
        if (state.error().code == Errc::not_found) {
            // Lost altogether: then nobody may make it anew.
            CHECK_FALSE(vault.create({"again", 2, uuid}));
        }
        return false;
    }
    CHECK(state->sequence == sequence);
    CHECK(blob_of(*state, BlobKind::permanent) == expected);
    return true;
}

struct Outcome {
    int refused = 0;  // the whole vault
    int alone = 0;    // one instance, the other goes on
    int both = 0;
    int harmless = 0;
};

// The chip is as it was before, afterwards.
void judge_all(const Prepared& p, fakes::FakeChip& chip, Outcome& outcome) {
    const auto memory = chip.memory();
    const struct Restore {
        fakes::FakeChip& chip;
        const fakes::FakeChip::Memory& memory;
        ~Restore() { chip.memory() = memory; }
    } restore{chip, memory};
    SqliteVault vault(p.directory(), chip);
    CHECK(vault.status().phase == Phase::locked);
    if (!vault.unlock()) {
        CHECK(vault.status().reason);
        CHECK_FALSE(vault.setup({}));
        ++outcome.refused;
        return;
    }
    const bool a = judge(vault, p.a, content_a, 2);
    const bool b = judge(vault, p.b, content_b, 1);
    if (const auto state = vault.load(p.fresh))
        CHECK((state->sequence == 0 && state->blobs.empty()));
    CHECK_FALSE(vault.load(p.gone));
    ++(a && b ? outcome.harmless : a || b ? outcome.alone : outcome.both);
}

}  // namespace

TEST_CASE("every byte of the database flipped, one at a time", "[every]") {
    // In memory: this opens the vault some ten thousand times.
    ::setenv("VTPM_TEST_DIRECTORY", "/dev/shm", 1);
    Prepared p;
    ::unsetenv("VTPM_TEST_DIRECTORY");
    const Bytes good = slurp(p.database());
    REQUIRE(good.size() > 20'000);
    // VTPM_TEST_STRIDE=1: all bytes. Else a quarter of them.
    const char* const wanted = std::getenv("VTPM_TEST_STRIDE");
    const std::size_t stride = wanted == nullptr ? 4 : std::stoul(wanted);
    Outcome outcome;
    for (std::size_t at = 0; at < good.size(); at += stride) {
        Bytes bad = good;
        bad[at] ^= static_cast<std::uint8_t>(1U << ((at / stride) % 8));
        spit(p.database(), bad);
        INFO("byte " << at);
        judge_all(p, p.chip, outcome);
        fs::remove(p.directory() / "vault.db-wal");
    }
    WARN(good.size() << " bytes, stride " << stride << ": whole vault refused " << outcome.refused
                     << ", one instance alone " << outcome.alone << ", both " << outcome.both
                     << ", harmless " << outcome.harmless);
    CHECK(outcome.refused > 1000 / static_cast<int>(stride));
    CHECK(outcome.alone > 800 / static_cast<int>(stride));
    CHECK(outcome.harmless > 1000 / static_cast<int>(stride));  // free space of pages
    spit(p.database(), good);
    judge_all(p, p.chip, outcome);
}

TEST_CASE("truncated databases") {
    Prepared p;
    const Bytes good = slurp(p.database());
    Outcome outcome;
    for (std::size_t size = 0; size < good.size(); size += 509) {
        Bytes cut = good;
        cut.resize(size);
        spit(p.database(), cut);
        INFO("size " << size);
        judge_all(p, p.chip, outcome);
        fs::remove(p.directory() / "vault.db-wal");
    }
    CHECK(outcome.harmless == 0);
}

TEST_CASE("one instance's damage is its own") {
    Prepared p;
    std::string what;
    SECTION("its permanent record is changed") {
        what = "UPDATE records SET content = zeroblob(length(content)) WHERE id = 5";
    }
    SECTION("its permanent record is missing") {
        what = "DELETE FROM records WHERE id = 5";
    }
    SECTION("another of its records is missing") {
        what = "DELETE FROM records WHERE id = 7";
    }
    SECTION("a record too many") {
        what =
            "INSERT INTO records SELECT 6, 1, generation, sequence, anchor, content FROM records"
            " WHERE id = 5";
    }
    SECTION("its record is another instance's") {
        what =
            "UPDATE records SET content = (SELECT content FROM records WHERE id = 9)"
            " WHERE id = 5";
    }
    SECTION("its records are swapped") {
        what =
            "UPDATE records SET content = (SELECT content FROM records WHERE id = 12 - records.id)"
            " WHERE id IN (5, 7)";
    }
    SECTION("the sequence of a record") {
        what = "UPDATE records SET sequence = 1 WHERE id = 5";
    }
    SECTION("the type of a record") {
        what = "UPDATE records SET content = 'text' WHERE id = 5";
    }
    SECTION("its sequence") {
        what = "UPDATE instances SET sequence = 1 WHERE id = 1";
    }
    SECTION("its row says fresh") {
        what =
            "UPDATE instances SET sequence = 0, last_store = NULL, digest_1 = NULL,"
            " digest_3 = NULL WHERE id = 1";
    }
    SECTION("its row and records say fresh") {
        what =
            "UPDATE instances SET sequence = 0, last_store = NULL, digest_1 = NULL,"
            " digest_3 = NULL, bytes_1 = 0, bytes_3 = 0 WHERE id = 1;"
            " DELETE FROM records WHERE instance_id = 1";
    }
    SECTION("its key is another's") {
        what =
            "UPDATE instances SET wrapped_key = (SELECT wrapped_key FROM instances WHERE id = 2)"
            " WHERE id = 1";
    }
    SECTION("its name") {
        what = "UPDATE instances SET name = 'other' WHERE id = 1";
    }
    SECTION("a name for terminals") {
        what = "UPDATE instances SET name = char(27) || '[2J' WHERE id = 1";
    }
    SECTION("its TPM's kind") {
        what = "UPDATE instances SET tpm = 1 WHERE id = 1";
    }
    SECTION("its state") {
        what = "UPDATE instances SET state = 3 WHERE id = 1";
    }
    SECTION("its generation") {
        what = "UPDATE instances SET generation = 2 WHERE id = 1";
    }
    SECTION("the MAC of its row") {
        what = "UPDATE instances SET mac = NULL WHERE id = 1";
    }
    SECTION("NULL everywhere else") {
        what = "UPDATE instances SET name = NULL, tpm = NULL, state = NULL WHERE id = 1";
    }
    SECTION("numbers out of range") {
        what =
            "UPDATE instances SET tpm = 257, state = -1, sequence = -1, bytes_1 ="
            " 9223372036854775807 WHERE id = 1";
    }
    SECTION("two rows for it") {
        what =
            "INSERT INTO instances SELECT 77, uuid, name, tpm, sync, group_id, group_uuid, state,"
            " generation, sequence, created, committed, bytes_1, bytes_2, bytes_3, wrapped_key,"
            " last_store, digest_1, digest_2, digest_3, move, policy, mac, past FROM instances "
            "WHERE id "
            "= 1;"
            " INSERT INTO records SELECT 309, 77, generation, sequence, anchor, content"
            " FROM records WHERE id = 5";
    }
    INFO(what);
    sql(p.database(), what);

    p.reopen_unlocked();
    auto state = p.vault->load(p.a);
    REQUIRE_FALSE(state);
    CHECK(state.error().code == Errc::corrupt);
    CHECK(state.error().next == NextAction::ask_operator);
    CHECK(error_of(p.vault->store(p.a, 2, permanent("x"))) == Errc::corrupt);
    CHECK(error_of(p.vault->store(p.a, 0, permanent("x"))) == Errc::corrupt);
    CHECK(error_of(p.vault->rename(p.a, "new")) == Errc::corrupt);
    CHECK_FALSE(p.vault->create({"again", 2, p.a}));
    const auto shown = p.vault->get(p.a);
    REQUIRE(fine(shown));
    CHECK(shown->state == InstanceState::quarantined);
    CHECK(shown->name.find('\x1b') == std::string::npos);
    const auto list = p.vault->list();
    REQUIRE(fine(list));
    CHECK(list->size() == 3);
    CHECK(p.vault->status().quarantined == 1);
    CHECK(p.vault->status().phase == Phase::open);
    CHECK(p.vault->status().reason->code == Errc::corrupt);

    // The others go on, also over a restart.
    CHECK(p.loaded(p.b) == content_b);
    CHECK(p.stored(p.b, 1, "newer state of b") == 2);
    const Uuid added = p.made("added");
    p.reopen_unlocked();
    CHECK(p.loaded(p.b) == "newer state of b");
    CHECK(p.vault->load(added)->sequence == 0);
    CHECK(error_of(p.vault->load(p.a)) == Errc::corrupt);

    // Deleting is the one thing that can be done with it, and heals the table.
    REQUIRE(fine(p.vault->remove(p.a)));
    p.reopen_unlocked();
    CHECK(error_of(p.vault->load(p.a)) == Errc::not_found);
    CHECK_FALSE(p.vault->create({"again", 2, p.a}));
    CHECK_FALSE(p.vault->status().reason);
    CHECK(p.loaded(p.b) == "newer state of b");
}

TEST_CASE("a row that left no trace is the trouble of all: nobody can say what else is older") {
    Prepared p;
    SECTION("its row is a copy of another's") {
        sql(p.database(),
            "DELETE FROM records WHERE instance_id = 1; DELETE FROM instances WHERE id = 1;"
            " INSERT INTO instances SELECT 1, x'" +
                to_hex(p.a.bytes()) +
                "', 'a', tpm, sync, group_id, group_uuid, state, generation, sequence, created,"
                " committed, bytes_1, bytes_2, bytes_3, wrapped_key, last_store, digest_1,"
                " digest_2, digest_3, move, policy, mac, past FROM instances WHERE id = 2");
    }
    SECTION("its row and the row's MAC") {
        sql(p.database(), "UPDATE instances SET name = NULL, mac = NULL WHERE id = 1");
    }
    SECTION("a damaged row hides no older one") {
        // Not even if the older one is whole.
        const Bytes before = slurp(p.database());
        p.reopen_unlocked();
        p.stored(p.b, 1, "newer state of b");
        p.close();
        const fs::path old = p.temporary.path() / "old.db";
        spit(old, before);
        sql(p.database(), "ATTACH '" + old.string() +
                              "' AS old; UPDATE instances SET name = 'x' WHERE id = 1;"
                              " REPLACE INTO instances SELECT * FROM old.instances WHERE id = 2;"
                              " REPLACE INTO records SELECT * FROM old.records WHERE id = 9");
    }
    p.reopen();
    CHECK(error_of(p.vault->unlock()) == Errc::corrupt);
    CHECK(p.vault->status().phase == Phase::locked);
}

TEST_CASE("a uuid whose row is damaged beyond telling is not given away") {
    Prepared p;
    sql(p.database(), "UPDATE instances SET uuid = randomblob(16) WHERE id = 1");
    p.reopen_unlocked();
    CHECK(error_of(p.vault->load(p.a)) == Errc::not_found);
    CHECK(error_of(p.vault->create({"again", 2, p.a})) == Errc::corrupt);
    CHECK(p.vault->status().quarantined == 1);
    CHECK(fine(p.vault->create({"other", 2, {}})));
}

TEST_CASE("rows that are missing are missed") {
    Prepared p;
    SECTION("an instance") {
        sql(p.database(),
            "DELETE FROM records WHERE instance_id = 1;"
            " DELETE FROM instances WHERE id = 1");
    }
    SECTION("a tombstone") {
        sql(p.database(), "DELETE FROM instances WHERE id = 4");
    }
    SECTION("a fresh instance") {
        sql(p.database(), "DELETE FROM instances WHERE id = 3");
    }
    SECTION("all instances") {
        sql(p.database(), "DELETE FROM records; DELETE FROM instances");
    }
    SECTION("the MAC of the table") {
        sql(p.database(), "DELETE FROM total");
    }
    SECTION("the group") {
        sql(p.database(), "DELETE FROM groups");
    }
    SECTION("the vault") {
        sql(p.database(), "DELETE FROM vault");
    }
    p.reopen();
    CHECK(error_of(p.vault->unlock()) == Errc::corrupt);
    CHECK(p.vault->status().phase == Phase::locked);
    CHECK(error_of(p.vault->setup({})).has_value());
}

TEST_CASE("the rows that open the rest are verified") {
    Prepared p;
    SECTION("another group key") {
        sql(p.database(),
            "UPDATE groups SET sealed_public = (SELECT root_public FROM vault),"
            " sealed_private = (SELECT root_private FROM vault)");
    }
    SECTION("the group's name") {
        sql(p.database(), "UPDATE groups SET name = 'other'");
    }
    SECTION("another manager") {
        sql(p.database(), "UPDATE vault SET manager = randomblob(16)");
    }
    SECTION("another cell") {
        sql(p.database(), "UPDATE vault SET cell_index = cell_index + 1");
    }
    SECTION("another authorization value") {
        sql(p.database(), "UPDATE vault SET cell_auth = randomblob(length(cell_auth))");
    }
    SECTION("the text about the chip") {
        sql(p.database(), "UPDATE vault SET chip_firmware = '9'");
    }
    SECTION("the sealed root key") {
        sql(p.database(), "UPDATE vault SET root_private = zeroblob(length(root_private))");
    }
    SECTION("two rows") {
        sql(p.database(),
            "INSERT INTO vault SELECT 2, manager, created, chip_public, chip_name,"
            " chip_manufacturer, chip_firmware, root_public, root_private,"
            " default_group, recovery_point, escrow, cell_index, cell_auth, anchor_key,"
            " counter_index, latch_index, latch_value, mac FROM vault");
    }
    p.reopen();
    CHECK(error_of(p.vault->unlock()) == Errc::corrupt);
}

// It is told to people before anything has verified.
TEST_CASE("what the disk says of the chip is told only if a chip could have said it") {
    Fixture f;
    f.set_up();
    f.close();
    const bool too_long = GENERATE(false, true);
    sql(f.database(), too_long ? "UPDATE vault SET chip_firmware = hex(zeroblob(33))"
                               : "UPDATE vault SET chip_manufacturer = char(27) || '[2J'");
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    CHECK(f.vault->status().chip.empty());
    CHECK(f.vault->status().reason->context == "the row of the vault itself is damaged");
}
