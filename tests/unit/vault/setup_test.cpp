// Setup, unlock and status; what is refused before a key is asked for.
#include <sys/stat.h>
#include <unistd.h>

#include "fakes/chip/memory_scan.h"
#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

TEST_CASE("before setup there is nothing, and nothing is made by asking") {
    Fixture f;
    CHECK(f.vault->status().phase == Phase::not_set_up);
    CHECK_FALSE(f.vault->status().reason);
    CHECK(error_of(f.vault->unlock()) == Errc::not_set_up);
    CHECK(error_of(f.vault->create({"a", 2, {}})) == Errc::not_set_up);
    CHECK(error_of(f.vault->list()) == Errc::not_set_up);
    CHECK(error_of(f.vault->load(Uuid())) == Errc::not_set_up);
    CHECK(error_of(f.vault->store(Uuid(), 0, permanent("x"))) == Errc::not_set_up);
    CHECK(f.vault->idle());
    CHECK_FALSE(fs::exists(f.directory()));
    CHECK(f.chip.calls() == 1);  // by unlock(): whether it knows of a vault
}

TEST_CASE("setup opens a vault, once") {
    Fixture f;
    const auto outcome = f.vault->setup({});
    REQUIRE(fine(outcome));
    const auto status = f.vault->status();
    CHECK(status.phase == Phase::open);
    CHECK_FALSE(status.reason);
    CHECK(status.manager == *outcome);
    CHECK(status.format == 7);
    CHECK_FALSE(status.recovery);
    CHECK(status.instances == 0);
    CHECK(status.last_commit == 0);
    CHECK(status.chip.find("FAKE 1.2.3.4") == 0);
    CHECK(status.binding.find("not to what was booted") != std::string::npos);
    CHECK(error_of(f.vault->setup({})) == Errc::already_exists);

    f.reopen();
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(f.vault->status().manager == *outcome);
    CHECK(error_of(f.vault->setup({})) == Errc::locked);
    CHECK(error_of(set_up_with_key(*f.vault)) == Errc::locked);
    CHECK(error_of(replace_key(*f.vault)) == Errc::locked);
    CHECK(error_of(f.vault->create({"a", 2, {}})) == Errc::locked);
    REQUIRE(fine(f.vault->unlock()));
    CHECK(fine(f.vault->unlock()));
    CHECK(f.vault->status().phase == Phase::open);
}

TEST_CASE("files are private") {
    Fixture f;
    const auto old_mask = ::umask(0);
    f.set_up();
    f.stored(f.made("a"), 0, "state");
    ::umask(old_mask);
    struct stat found {};
    REQUIRE(::stat(f.directory().c_str(), &found) == 0);
    CHECK((found.st_mode & 0777U) == 0700);
    int files = 0;
    for (const auto& entry : fs::directory_iterator(f.directory())) {
        REQUIRE(::stat(entry.path().c_str(), &found) == 0);
        INFO(entry.path());
        CHECK((found.st_mode & 0777U) == 0600);
        ++files;
    }
    CHECK(files == 3);  // database, log, marker

    f.close();
    SECTION("a database that others can read") {
        ::chmod(f.database().c_str(), 0640);
    }
    SECTION("a directory that others can read") {
        ::chmod(f.directory().c_str(), 0750);
    }
    SECTION("a database that is a symlink") {
        fs::rename(f.database(), f.temporary.path() / "elsewhere");
        fs::create_symlink(f.temporary.path() / "elsewhere", f.database());
    }
    SECTION("a directory that is a symlink") {
        fs::rename(f.directory(), f.temporary.path() / "elsewhere");
        fs::create_symlink(f.temporary.path() / "elsewhere", f.directory());
    }
    SECTION("a database with a second name") {
        fs::create_hard_link(f.database(), f.temporary.path() / "second");
    }
    SECTION("a database of another user") {
        if (::geteuid() != 0 || ::chown(f.database().c_str(), 65534, 65534) != 0)
            return;
    }
    f.reopen();
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(f.vault->status().reason->code == Errc::permission);
    CHECK(error_of(f.vault->unlock()) == Errc::permission);
    CHECK(error_of(f.vault->setup({})) == Errc::permission);
}

TEST_CASE("another process has the vault") {
    Fixture f;
    f.set_up();
    int go[2];
    REQUIRE(::pipe(go) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        SqliteVault second(f.directory(), f.chip);
        const auto reason = second.status().reason;
        const bool in_use = second.status().phase == Phase::locked && reason &&
                            reason->code == Errc::in_use &&
                            error_of(second.unlock()) == Errc::in_use;
        ::_exit(in_use ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(fine(f.vault->create({"a", 2, {}})));
}

TEST_CASE("an interrupted setup leaves no vault") {
    Fixture f;
    for (int nth = 1; nth <= 30; ++nth) {
        f.chip.fail_nth(nth, Error{Errc::unavailable, NextAction::retry_later, "gone"});
        const auto outcome = set_up_with_key(*f.vault);
        if (outcome) {
            CHECK(nth > 8);
            break;
        }
        CHECK(error_of(outcome) == Errc::unavailable);
        CHECK(f.vault->status().phase == Phase::not_set_up);
        CHECK_FALSE(fs::exists(f.database()));
        f.reopen();
        CHECK(f.vault->status().phase == Phase::not_set_up);
    }
    // Leftovers of a power cut before the rename are replaced.
    Fixture g;
    fs::create_directory(g.directory());
    fs::permissions(g.directory(), fs::perms::owner_all);
    spit(g.directory() / "vault.db.new", Bytes(5000, 7));
    spit(g.directory() / "vault.db.new-journal", Bytes(5000, 7));
    CHECK(g.vault->status().phase == Phase::not_set_up);
    CHECK(error_of(g.vault->unlock()) == Errc::not_set_up);
    g.set_up();
    CHECK_FALSE(fs::exists(g.directory() / "vault.db.new"));
    g.reopen_unlocked();
}

TEST_CASE("a chip that fails after the vault is laid down does not cost the recovery key") {
    Fixture probe;
    (void)set_up_with_key(*probe.vault);
    const int calls = probe.chip.calls();
    Fixture f;
    // The calls after it ask about the latch, and look for indices of ours that are not needed.
    f.chip.fail_nth(calls - 4, Error{Errc::unavailable, NextAction::retry_later, "gone"});
    const auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(f.vault->status().reason->code == Errc::unavailable);
    CHECK(fine(f.vault->unlock()));
    CHECK_FALSE(f.vault->status().reason);
    CHECK(fine(f.vault->check_recovery_key(outcome->recovery_key_pem)));
}

TEST_CASE("a vault whose database is lost is not a new one") {
    Fixture f;
    f.set_up();
    f.close();
    SECTION("the marker is left") {
        fs::remove(f.database());
    }
    SECTION("the log is left") {
        fs::remove(f.database());
        fs::remove(f.directory() / "set-up");
        spit(f.directory() / "vault.db-wal", Bytes(32));
    }
    f.reopen();
    CHECK(f.vault->status().phase == Phase::locked);
    CHECK(f.vault->status().reason->code == Errc::corrupt);
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    CHECK(error_of(f.vault->setup({})) == Errc::corrupt);
    CHECK_FALSE(fs::exists(f.database()));
}

TEST_CASE("a directory that is empty while the chip knows a vault is no new host") {
    Fixture f;
    f.set_up();
    f.close();
    const fs::path away = f.temporary.path() / "not mounted";
    fs::rename(f.directory(), away);
    f.reopen();
    CHECK(f.vault->status().phase == Phase::not_set_up);
    const auto opened = f.vault->unlock();
    CHECK(error_of(opened) == Errc::not_set_up);
    CHECK(opened.error().context.find("commit cell") != std::string::npos);
    CHECK(f.vault->status().reason->context == opened.error().context);
    const auto refused = f.vault->setup({});
    CHECK(error_of(refused) == Errc::not_set_up);
    CHECK(refused.error().context.find("--beside-another") != std::string::npos);
    CHECK_FALSE(fs::exists(f.database()));
    SECTION("it comes back") {
        fs::remove_all(f.directory());
        fs::rename(away, f.directory());
        REQUIRE(fine(f.vault->unlock()));
        CHECK_FALSE(f.vault->status().reason);
    }
    SECTION("or is left behind, and stays what it was") {
        SetupWishes wishes;
        wishes.beside_another = true;
        REQUIRE(fine(f.vault->setup(wishes)));
        f.close();
        f.reopen_unlocked();
        f.vault.emplace(away, f.chip);
        CHECK(fine(f.vault->unlock()));
    }
}

TEST_CASE("the marker comes back if a crash came before it") {
    Fixture f;
    f.set_up();
    f.close();
    fs::remove(f.directory() / "set-up");
    f.reopen_unlocked();
    CHECK(fs::exists(f.directory() / "set-up"));
}

TEST_CASE("format and kind of the database") {
    Fixture f;
    f.set_up();
    f.close();
    Errc expected = Errc::corrupt;
    SECTION("a newer format") {
        sql(f.database(), "PRAGMA user_version = 8");
        expected = Errc::unsupported;
    }
    SECTION("a format that is too old") {
        sql(f.database(), "PRAGMA user_version = 4");
        expected = Errc::unsupported;
    }
    SECTION("another program's file") {
        sql(f.database(), "PRAGMA application_id = 1");
    }
    SECTION("a table more") {
        sql(f.database(), "CREATE TABLE more(x)");
    }
    SECTION("a trigger") {
        sql(f.database(),
            "CREATE TRIGGER t AFTER UPDATE ON instances BEGIN DELETE FROM records; END");
    }
    SECTION("a table less") {
        sql(f.database(), "DROP TABLE total");
    }
    SECTION("a table of another shape") {
        sql(f.database(), "ALTER TABLE vault ADD COLUMN more");
    }
    SECTION("an empty file") {
        spit(f.database(), {});
    }
    SECTION("not a database") {
        spit(f.database(), Bytes(8192, 0x55));
    }
    SECTION("another database") {
        spit(f.database(), {});
        sql(f.database(), "CREATE TABLE t(x)");
    }
    const Bytes before = slurp(f.database());
    f.reopen();
    CHECK(f.vault->status().phase == Phase::locked);
    REQUIRE(f.vault->status().reason);
    CHECK(f.vault->status().reason->code == expected);
    CHECK(error_of(f.vault->unlock()) == expected);
    CHECK(error_of(f.vault->setup({})) == expected);
    CHECK(slurp(f.database()).size() == before.size());
}

TEST_CASE("another chip, or one that does not answer, keeps the vault locked") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "state of a");
    f.close();
    FakeChip other(2);
    SqliteVault stranger(f.directory(), other);
    CHECK(error_of(stranger.unlock()) == Errc::wrong_chip);
    CHECK(stranger.status().phase == Phase::locked);
    CHECK(stranger.status().reason->code == Errc::wrong_chip);
    CHECK(stranger.status().reason->context.find("no recovery key") != std::string::npos);
    CHECK(error_of(stranger.load(a)) == Errc::locked);
}

TEST_CASE("what a chip may do wrong at unlock") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "state of a");
    f.reopen();

    SECTION("the nth call fails; the next try goes well") {
        for (int nth = 1; nth <= 3; ++nth) {
            f.chip.fail_nth(nth, Error{Errc::chip, NextAction::retry_later, "busy"});
            CHECK(error_of(f.vault->unlock()) == Errc::chip);
            CHECK(f.vault->status().phase == Phase::locked);
            CHECK(f.vault->status().reason->next == NextAction::retry_later);
        }
    }
    SECTION("secrets of wrong sizes") {
        for (const std::size_t size : {0U, 1U, 31U}) {
            f.chip.cheat([&](SecretBytes& secret) { secret.shrink(size); });
            CHECK(error_of(f.vault->unlock()) == Errc::chip);
        }
        f.chip.cheat([&](SecretBytes& secret) { secret = SecretBytes(64); });
        CHECK(error_of(f.vault->unlock()) == Errc::chip);
    }
    SECTION("another secret") {
        f.chip.cheat([&](SecretBytes& secret) { secret.span()[5] ^= 1U; });
        CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    }
    SECTION("another secret the second time") {
        int calls = 0;
        f.chip.cheat([&](SecretBytes& secret) {
            if (++calls == 2)
                secret.span()[5] ^= 1U;
        });
        CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    }
    CHECK(f.vault->status().phase == Phase::locked);
    f.chip.cheat(nullptr);
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(a) == "state of a");
}

TEST_CASE("a chip that cheats at setup is not trusted with keys") {
    Fixture f;
    int calls = 0;
    f.chip.cheat([&](SecretBytes& secret) {
        if (++calls > 2)
            secret.span()[0] ^= 1U;  // not the random bytes, but what it unseals
    });
    CHECK(error_of(f.vault->setup({})) == Errc::chip);
    f.chip.cheat([&](SecretBytes& secret) { secret.shrink(8); });
    CHECK(error_of(f.vault->setup({})) == Errc::chip);
    CHECK(f.vault->status().phase == Phase::not_set_up);
    f.chip.cheat(nullptr);
    f.set_up();
}

TEST_CASE("the recovery key and the guests' states are wiped from memory") {
    Fixture f;
    {
        auto outcome = set_up_with_key(*f.vault);
        REQUIRE(fine(outcome));
        // The base64 in the middle of the PEM.
        auto middle = SecretBytes::copy_of(outcome->recovery_key_pem.view().subspan(100, 40));
        REQUIRE(fine(f.vault->check_recovery_key(outcome->recovery_key_pem)));
        CHECK(fakes::in_memory(middle.view()) == 2);
        outcome->recovery_key_pem = SecretBytes();
        CHECK(fakes::in_memory(middle.view()) == 1);
    }
    auto needle = SecretBytes(48);
    for (std::size_t i = 0; i < 48; ++i) {
        needle.span()[i] = static_cast<std::uint8_t>(31 + i * 11 + (i % 5) * 3);
    }
    const Uuid a = f.made("a");
    std::vector<BlobChange> changes;
    changes.push_back({BlobKind::permanent, needle.clone()});
    REQUIRE(fine(f.vault->store(a, 0, changes)));
    changes.clear();
    CHECK(fakes::in_memory(needle.view()) == 1);
    {
        const auto state = f.vault->load(a);
        REQUIRE(fine(state));
        CHECK(fakes::in_memory(needle.view()) == 2);
    }
    CHECK(fakes::in_memory(needle.view()) == 1);
}
