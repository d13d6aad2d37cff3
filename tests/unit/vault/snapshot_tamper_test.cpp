// Snapshots that are deleted, and those that somebody has changed on the disk.
#include <algorithm>

#include "snapshot_scene.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("what was deleted is erased") {
    Scene s;
    s.stored(s.web, 1, std::string(9000, 's'));
    s.snapshot("long");
    s.close();
    const Bytes content = blob(s.database(), "SELECT content FROM snapshots WHERE sequence = 2");
    REQUIRE(content.size() > 9000);
    s.reopen_unlocked();
    const auto there = [&] {
        bool found = false;
        for (const auto& entry : std::filesystem::directory_iterator(s.directory())) {
            const Bytes bytes = slurp(entry.path());
            for (std::size_t at = 0; at + 64 <= content.size(); at += 512) {
                const auto part = content.begin() + static_cast<std::ptrdiff_t>(at);
                found = found ||
                        std::search(bytes.begin(), bytes.end(), part, part + 64) != bytes.end();
            }
        }
        return found;
    };
    CHECK(there());
    SECTION("the snapshot") {
        REQUIRE(fine(s.vault->remove_snapshot(s.web, "long")));
        CHECK(s.last_line() == "snapshot-delete: web1" + of(s.web) + ": long");
        CHECK(s.facts(s.web).snapshots == 0);
        CHECK(s.loaded(s.web) == std::string(9000, 's'));
    }
    SECTION("the instance") {
        REQUIRE(fine(s.vault->remove(s.web)));
        CHECK(error_of(s.vault->snapshots(s.web)) == Errc::not_found);
    }
    SECTION("its key") {
        REQUIRE(fine(s.vault->rotate_instance(s.web)));
        s.revert("long");
    }
    CHECK_FALSE(there());
    s.reopen_unlocked();
    CHECK_FALSE(there());
}

TEST_CASE("a snapshot that was tampered with is not served, and spoils nothing else") {
    Scene s;
    s.snapshot("a");
    s.stored(s.web, 1, "two");
    s.snapshot("b");
    s.close();
    const auto old = s.temporary.path() / "old.db";
    spit(old, slurp(s.database()));
    s.reopen_unlocked();
    REQUIRE(fine(s.vault->remove_snapshot(s.web, "a")));
    s.stored(s.web, 2, "three");
    s.snapshot("a");
    s.close();
    const std::string attach = "ATTACH '" + old.string() + "' AS old; ";
    const auto refused = [&](const std::string& name) {
        s.reopen_unlocked();
        CHECK(error_of(s.vault->revert(s.web, name)) == Errc::corrupt);
        CHECK(error_of(s.vault->clone(s.web, {"copy", {}, name})) == Errc::corrupt);
        CHECK(error_of(s.vault->rotate_instance(s.web)) == Errc::corrupt);
        CHECK(s.loaded(s.web) == "three");
        CHECK(s.facts(s.web).reverts == 0);
        CHECK(s.facts(s.web).sequence == 3);
        s.revert(name == "a" ? "b" : "a");
        REQUIRE(fine(s.vault->remove_snapshot(s.web, name)));
        REQUIRE(fine(s.vault->rotate_instance(s.web)));
    };
    SECTION("an older one of that name") {
        sql(s.database(), attach +
                              "REPLACE INTO snapshots SELECT * FROM old.snapshots"
                              " WHERE sequence = 1");
        refused("a");
    }
    SECTION("its neighbour") {
        sql(s.database(),
            "UPDATE snapshots SET (sequence, content) = (SELECT sequence, content"
            " FROM snapshots WHERE sequence = 3) WHERE sequence = 2");
        refused("b");
    }
    SECTION("a bit of it") {
        sql(s.database(), "UPDATE snapshots SET content = zeroblob(100) WHERE sequence = 2");
        refused("b");
    }
    SECTION("none") {
        sql(s.database(), "DELETE FROM snapshots WHERE sequence = 2");
        refused("b");
    }
    SECTION("the list of them") {
        sql(s.database(), attach +
                              "UPDATE instances SET past ="
                              " (SELECT past FROM old.instances WHERE id = 1) WHERE id = 1");
        s.reopen();
        // Which is what the row's MAC is for: the row is damaged, and known to be.
        REQUIRE(fine(s.vault->unlock()));
        CHECK(error_of(s.vault->load(s.web)) == Errc::corrupt);
        CHECK(error_of(s.vault->take_snapshot(s.web, "c")) == Errc::corrupt);
        CHECK(error_of(s.vault->revert(s.web, "b")) == Errc::corrupt);
        CHECK(error_of(s.vault->clone(s.web, {"copy"})) == Errc::corrupt);
        REQUIRE(fine(s.vault->remove(s.web)));
        s.reopen_unlocked();
        CHECK(s.vault->list()->empty());
        s.close();
        CHECK(blob(s.database(), "SELECT count(*) FROM snapshots") == Bytes{'0'});
    }
    SECTION("the row, with the list and its MAC") {
        sql(s.database(),
            attach + "REPLACE INTO instances SELECT * FROM old.instances WHERE id = 1");
        s.reopen();
        CHECK(error_of(s.vault->unlock()) == Errc::corrupt);
    }
}

TEST_CASE("a TPM whose newest state is damaged goes back to a snapshot") {
    Scene s;
    s.snapshot("a");
    s.stored(s.web, 1, "two");
    s.close();
    sql(s.database(), "UPDATE records SET content = zeroblob(100)");
    s.reopen_unlocked();
    const bool found_before = GENERATE(false, true);
    if (found_before) {
        const auto loaded = s.vault->load(s.web);
        REQUIRE(error_of(loaded) == Errc::corrupt);
        CHECK(loaded.error().context.find("vtpmctl snapshots web1") != std::string::npos);
        CHECK(s.vault->status().quarantined == 1);
        CHECK(s.names(s.web) == "a@1 ");
        CHECK(error_of(s.vault->clone(s.web, {"no"})) == Errc::corrupt);
        CHECK(error_of(s.vault->take_snapshot(s.web, "no")) == Errc::corrupt);
    }
    SECTION("by a clone") {
        const auto copy = s.vault->clone(s.web, {"copy", {}, "a"});
        REQUIRE(fine(copy));
        CHECK(s.loaded(copy->uuid) == "one");
        CHECK(s.vault->status().quarantined == (found_before ? 1 : 0));
        CHECK(error_of(s.vault->load(s.web)) == Errc::corrupt);
    }
    REQUIRE(fine(s.vault->revert(s.web, "a")));
    CHECK(s.vault->status().quarantined == 0);
    CHECK(s.loaded(s.web) == "one");
    CHECK(s.facts(s.web).state == InstanceState::live);
    CHECK(s.facts(s.web).sequence == 3);
    s.reopen_unlocked();
    CHECK(s.loaded(s.web) == "one");
}

TEST_CASE("new keys wait for damaged snapshots, all of which are named") {
    Scene s;
    for (const std::string name : {"a", "b", "c"})
        s.snapshot(name);
    s.close();
    sql(s.database(), "UPDATE snapshots SET content = zeroblob(100) WHERE id % 16 != 1");
    s.reopen_unlocked();
    const auto rotated = s.vault->rotate_instance(s.web);
    REQUIRE(error_of(rotated) == Errc::corrupt);
    const auto named = [&](const std::string& name) {
        return rotated.error().context.find("vtpmctl delete-snapshot web1 " + name + " --yes") !=
               std::string::npos;
    };
    CHECK(named("a"));
    CHECK_FALSE(named("b"));
    CHECK(named("c"));
    REQUIRE(fine(s.vault->remove_snapshot(s.web, "a")));
    REQUIRE(fine(s.vault->remove_snapshot(s.web, "c")));
    REQUIRE(fine(s.vault->rotate_instance(s.web)));
    s.revert("b");
}

TEST_CASE("an older disk is noticed by what was done with snapshots since") {
    Scene s;
    s.snapshot("a");
    s.stored(s.web, 1, "two");
    s.close();
    const Bytes before = slurp(s.database());
    s.reopen_unlocked();
    SECTION("a revert") {
        s.revert("a");
        s.vault.reset();  // not closed: the chip had to be told at once
    }
    SECTION("a snapshot more") {
        s.snapshot("b");
        s.close();
    }
    SECTION("one less") {
        REQUIRE(fine(s.vault->remove_snapshot(s.web, "a")));
        s.vault.reset();
    }
    SECTION("a clone") {
        REQUIRE(fine(s.vault->clone(s.web, {"copy"})));
        s.vault.reset();
    }
    spit(s.database(), before);
    std::filesystem::remove(s.directory() / "vault.db-wal");
    s.reopen();
    CHECK(error_of(s.vault->unlock()) == Errc::rolled_back);
}
