// Snapshots of a TPM, the way back to one, and clones.
#include "small_files.h"
#include "snapshot_scene.h"
#include "two_hosts.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a revert brings back the snapshot, and the sequence goes on upwards") {
    Scene s;
    s.snapshot("clean");
    CHECK(s.last_line() == "snapshot: web1" + of(s.web) + ": clean, at write 1");
    std::vector<BlobChange> more = permanent("two");
    more.push_back({BlobKind::volatile_state, secret_of("a suspended guest")});
    more.push_back({BlobKind::saved, secret_of("saved")});
    REQUIRE(fine(s.vault->store(s.web, 1, more)));
    s.snapshot("later");
    CHECK(s.names(s.web) == "clean@1 later@2 ");

    const auto reverted = s.vault->revert(s.web, "clean");
    REQUIRE(fine(reverted));
    CHECK(reverted->sequence == 3);
    CHECK(reverted->reverts == 1);
    CHECK(reverted->bytes == 3);
    CHECK(s.last_line() == "revert: web1" + of(s.web) +
                               " to clean: from write 2 back to what it was at 1, revert number 1");
    const auto check = [&] {
        const auto state = s.vault->load(s.web);
        REQUIRE(fine(state));
        CHECK(state->sequence == 3);
        REQUIRE(state->blobs.size() == 1);
        CHECK(blob_of(*state, BlobKind::permanent) == "one");
        CHECK(s.facts(s.web).reverts == 1);
        CHECK(s.facts(s.web).snapshots == 2);
        CHECK(s.facts(s.web).snapshot_bytes == 6);
        CHECK(s.names(s.web) == "clean@1 later@2 ");
    };
    check();
    CHECK(s.vault->status().freshness->writes == 0);  // the chip knows of it
    s.reopen_unlocked();
    check();
    // What an engine of before still has to say comes too late.
    CHECK(error_of(s.vault->store(s.web, 2, permanent("late"))) == Errc::out_of_order);
    CHECK(error_of(s.vault->store(s.web, 1, more)) == Errc::out_of_order);
    s.stored(s.web, 3, "four");
    s.revert("later");
    CHECK(s.loaded(s.web) == "two");
    CHECK(s.facts(s.web).sequence == 5);
    CHECK(s.facts(s.web).reverts == 2);
}

TEST_CASE("what cannot be a snapshot, and how many there can be") {
    Scene s;
    const Uuid idle = s.made("idle");
    CHECK(error_of(s.vault->take_snapshot(idle, "a")) == Errc::invalid_argument);
    CHECK(error_of(s.vault->clone(idle, {"copy"})) == Errc::invalid_argument);
    for (const std::string bad : {"", "-a", ".a", "a b", "a\n", "../a"})
        CHECK(error_of(s.vault->take_snapshot(s.web, bad)) == Errc::invalid_argument);
    CHECK(error_of(s.vault->take_snapshot(s.web, std::string(65, 'a'))) == Errc::invalid_argument);
    CHECK(error_of(s.vault->take_snapshot(Uuid::random(), "a")) == Errc::not_found);
    CHECK(error_of(s.vault->revert(s.web, "a")) == Errc::not_found);
    CHECK(error_of(s.vault->remove_snapshot(s.web, "a")) == Errc::not_found);
    CHECK(error_of(s.vault->clone(s.web, {"copy", {}, "a"})) == Errc::not_found);
    s.snapshot("a");
    CHECK(error_of(s.vault->take_snapshot(s.web, "a")) == Errc::already_exists);
    for (std::size_t n = 1; n < Vault::max_snapshots; ++n)
        s.snapshot(std::string(64 - (n < 10 ? 1 : 2), 'x') + std::to_string(n));
    CHECK(error_of(s.vault->take_snapshot(s.web, "more")) == Errc::too_large);
    s.reopen_unlocked();
    CHECK(s.facts(s.web).snapshots == Vault::max_snapshots);
    REQUIRE(fine(s.vault->remove_snapshot(s.web, "a")));
    s.stored(s.web, 1, "two");
    s.snapshot("more");  // in the place of a
    s.revert(std::string(63, 'x') + "1");
    CHECK(s.loaded(s.web) == "one");
    s.revert("more");
    CHECK(s.loaded(s.web) == "two");
}

TEST_CASE("a clone is another instance with the same state") {
    Scene s;
    s.snapshot("clean");
    s.stored(s.web, 1, "two");
    const Bytes policy{1, 2, 3};
    REQUIRE(fine(s.vault->set_policy(s.web, policy)));
    const auto now = s.vault->clone(s.web, {"copy"});
    REQUIRE(fine(now));
    const Uuid wanted = Uuid::random();
    const auto then = s.vault->clone(s.web, {"old-copy", wanted, "clean"});
    REQUIRE(fine(then));
    CHECK(s.last_line() ==
          "clone: old-copy" + of(wanted) + " of web1" + of(s.web) + ", snapshot clean");
    CHECK(error_of(s.vault->clone(s.web, {"copy"})) == Errc::already_exists);
    CHECK(error_of(s.vault->clone(s.web, {"third", wanted})) == Errc::already_exists);
    s.reopen_unlocked();
    CHECK(s.facts(s.web).clones == 2);
    CHECK(s.facts(s.web).origin.is_nil());
    for (const auto& [uuid, state] : {std::pair(now->uuid, "two"), {wanted, "one"}}) {
        const Instance clone = s.facts(uuid);
        CHECK(clone.origin == s.web);
        CHECK(clone.sequence == 1);
        CHECK(clone.tpm == 2);
        CHECK(clone.policy == policy);
        CHECK(clone.snapshots == 0);
        CHECK(clone.clones == 0);
        CHECK(s.loaded(uuid) == state);
    }
    s.stored(now->uuid, 1, "its own");
    CHECK(s.loaded(s.web) == "two");
    REQUIRE(fine(s.vault->remove(s.web)));
    CHECK(s.loaded(now->uuid) == "its own");
    s.close();
    const auto key_of = [&](const std::string& name) {
        return blob(s.database(), "SELECT wrapped_key FROM instances WHERE name = '" + name + "'");
    };
    CHECK(key_of("copy") != key_of("old-copy"));
    s.reopen_unlocked();
    CHECK(error_of(s.vault->clone(s.web, {"fourth"})) == Errc::not_found);
}

TEST_CASE("a clone keeps what was said of commits to the chip") {
    Scene s;
    const auto synced = s.vault->create({.name = "synced", .tpm = 1, .sync = true});
    REQUIRE(fine(synced));
    s.stored(synced->uuid, 0, "state");
    const auto clone = s.vault->clone(synced->uuid, {"copy"});
    REQUIRE(fine(clone));
    CHECK(clone->sync);
    CHECK(clone->tpm == 1);
}

TEST_CASE("snapshots outlive new keys") {
    Scene s;
    s.snapshot("a");
    s.stored(s.web, 1, "two");
    s.snapshot("b");
    s.stored(s.web, 2, "three");
    SECTION("of the instance") {
        REQUIRE(fine(s.vault->rotate_instance(s.web)));
        s.snapshot("c");
        REQUIRE(fine(s.vault->rotate_instance(s.web)));
    }
    SECTION("of the group") {
        REQUIRE(fine(s.vault->rotate_group(s.vault->find_group("")->uuid)));
    }
    SECTION("of the vault") {
        REQUIRE(fine(s.vault->rotate_root()));
    }
    SECTION("and a recovery") {
        s.close();
        const Bytes older = slurp(s.database());
        s.reopen_unlocked();
        s.snapshot("lost");
        s.close();
        spit(s.database(), older);
        s.reopen();
        REQUIRE(error_of(s.vault->unlock()) == Errc::rolled_back);
        REQUIRE(fine(s.vault->recover(SecretBytes())));
    }
    s.reopen_unlocked();
    s.revert("a");
    CHECK(s.loaded(s.web) == "one");
    s.revert("b");
    CHECK(s.loaded(s.web) == "two");
    CHECK(s.facts(s.web).reverts == 2);
}

TEST_CASE("a closed group's snapshots are closed, too") {
    Scene s;
    const auto group = s.vault->create_group("tenant", {});
    REQUIRE(fine(group));
    const auto instance = s.vault->create({.name = "t1", .tpm = 2, .group = group->uuid});
    REQUIRE(fine(instance));
    const Uuid uuid = instance->uuid;
    s.stored(uuid, 0, "state");
    REQUIRE(fine(s.vault->take_snapshot(uuid, "a")));
    const auto copy = s.vault->clone(uuid, {"t2", {}, "a"});
    REQUIRE(fine(copy));
    CHECK(copy->group == group->uuid);
    REQUIRE(fine(s.vault->close_group(group->uuid)));
    CHECK(error_of(s.vault->take_snapshot(uuid, "b")) == Errc::locked);
    CHECK(error_of(s.vault->revert(uuid, "a")) == Errc::locked);
    CHECK(error_of(s.vault->clone(uuid, {"t3", {}, "a"})) == Errc::locked);
    CHECK(error_of(s.vault->clone(uuid, {"t3"})) == Errc::locked);
    CHECK(s.names(uuid) == "a@1 ");
    REQUIRE(fine(s.vault->open_group(group->uuid)));
    REQUIRE(fine(s.vault->revert(uuid, "a")));
}

TEST_CASE("a revert waits for the proof of a write that nobody was told of") {
    Scene s;
    const auto made = s.vault->create({.name = "synced", .tpm = 2, .sync = true});
    REQUIRE(fine(made));
    const Uuid uuid = made->uuid;
    s.stored(uuid, 0, "one");
    REQUIRE(fine(s.vault->take_snapshot(uuid, "a")));
    s.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
    CHECK(error_of(s.vault->store(uuid, 1, permanent("two"))) == Errc::unavailable);
    CHECK(error_of(s.vault->revert(uuid, "a")) == Errc::unavailable);
    CHECK(s.facts(uuid).reverts == 0);
    s.chip.refuse(std::nullopt);
    REQUIRE(fine(s.vault->revert(uuid, "a")));
    CHECK(error_of(s.vault->store(uuid, 1, permanent("two"))) == Errc::out_of_order);
    CHECK(s.loaded(uuid) == "one");
    CHECK(s.facts(uuid).sequence == 3);
}

TEST_CASE("what the chip has not taken is said to be on the disk only") {
    Scene s;
    const auto synced = s.vault->create({.name = "synced", .tpm = 2, .sync = true});
    REQUIRE(fine(synced));
    s.stored(synced->uuid, 0, "one");
    REQUIRE(fine(s.vault->take_snapshot(synced->uuid, "a")));
    s.stored(synced->uuid, 1, "two");
    s.snapshot("a");
    s.stored(s.web, 1, "two");
    REQUIRE(fine(s.vault->commit_due()));
    const Error gone{Errc::unavailable, NextAction::ask_operator, "gone"};
    const auto told = [&](const auto& answer) {
        REQUIRE_FALSE(answer);
        CHECK(answer.error().code == Errc::unavailable);
        CHECK(answer.error().next == NextAction::retry_later);
        CHECK(answer.error().context.find("on the disk") != std::string::npos);
        CHECK(s.vault->status().freshness->writes > 0);
    };
    SECTION("a revert") {
        s.chip.refuse(gone);
        told(s.vault->revert(s.web, "a"));
        CHECK(s.loaded(s.web) == "one");
        CHECK(s.facts(s.web).reverts == 1);
    }
    SECTION("a revert of one whose every write is to be proven") {
        s.chip.refuse(gone);
        told(s.vault->revert(synced->uuid, "a"));
        CHECK(error_of(s.vault->load(synced->uuid)) == Errc::unavailable);
        // Nor may anybody's store() take its place.
        s.chip.refuse(std::nullopt);
        CHECK(error_of(s.vault->store(synced->uuid, 2, permanent("late"))) == Errc::out_of_order);
        CHECK(s.loaded(synced->uuid) == "one");
        CHECK(s.facts(synced->uuid).reverts == 1);
    }
    SECTION("a clone") {
        s.chip.refuse(gone);
        told(s.vault->clone(s.web, {"copy"}));
        const auto copy = s.vault->find("copy");
        REQUIRE(fine(copy));
        CHECK(s.loaded(copy->uuid) == "two");
    }
    SECTION("a clone of one whose every write is to be proven") {
        s.chip.refuse(gone);
        told(s.vault->clone(synced->uuid, {"copy"}));
        const auto copy = s.vault->find("copy");
        REQUIRE(fine(copy));
        CHECK(error_of(s.vault->load(copy->uuid)) == Errc::unavailable);
        CHECK(s.loaded(synced->uuid) == "two");
        s.chip.refuse(std::nullopt);
        CHECK(error_of(s.vault->store(copy->uuid, 0, permanent("new"))) == Errc::out_of_order);
        CHECK(s.loaded(copy->uuid) == "two");
    }
    SECTION("a deletion") {
        s.chip.refuse(gone);
        told(s.vault->remove_snapshot(s.web, "a"));
        CHECK(s.names(s.web).empty());
    }
    s.chip.refuse(std::nullopt);
    REQUIRE(fine(s.vault->close()));
    CHECK(s.vault->status().freshness->writes == 0);
}

TEST_CASE("a full disk refuses a snapshot, and changes nothing") {
    Scene s;
    s.stored(s.web, 1, std::string(200'000, 'x'));
    s.snapshot("a");
    REQUIRE(fine(s.vault->idle()));
    const rlim_t full = 100'000;
    CHECK(error_of(with_small_files(full, [&] { return s.vault->take_snapshot(s.web, "b"); })) ==
          Errc::io);
    CHECK(error_of(with_small_files(full, [&] { return s.vault->clone(s.web, {"copy"}); })) ==
          Errc::io);
    CHECK(error_of(with_small_files(full, [&] { return s.vault->revert(s.web, "a"); })) ==
          Errc::io);
    CHECK(s.names(s.web) == "a@2 ");
    CHECK(s.facts(s.web).reverts == 0);
    CHECK(s.vault->list()->size() == 1);
    s.snapshot("b");
    s.revert("b");
    s.reopen_unlocked();
    CHECK(s.names(s.web) == "a@2 b@2 ");
    CHECK(s.loaded(s.web) == std::string(200'000, 'x'));
}

TEST_CASE("the snapshots of all instances have a limit, which one deleted makes room below") {
    Scene s;
    const std::string large(Vault::max_blob_size, 'x');
    s.stored(s.web, 1, large);
    constexpr std::size_t fit = Vault::max_snapshot_bytes / Vault::max_blob_size;
    Uuid last;
    for (std::size_t n = 0; n < fit; ++n) {
        if (n % Vault::max_snapshots == 0) {
            const auto clone = s.vault->clone(s.web, {"c" + std::to_string(n)});
            REQUIRE(fine(clone));
            last = clone->uuid;
        }
        REQUIRE(fine(s.vault->take_snapshot(last, "s" + std::to_string(n))));
    }
    CHECK(s.vault->status().snapshot_bytes == Vault::max_snapshot_bytes);
    CHECK(error_of(s.vault->take_snapshot(s.web, "more")) == Errc::too_large);
    CHECK(s.facts(s.web).snapshots == 0);
    REQUIRE(fine(s.vault->remove_snapshot(last, "s" + std::to_string(fit - 1))));
    s.snapshot("more");
}

TEST_CASE("an export leaves snapshots behind, if it may") {
    TwoHosts h;
    const Uuid web = h.source.made("web1", "one");
    REQUIRE(fine(h.source.vault->take_snapshot(web, "a")));
    REQUIRE(fine(h.source.vault->revert(web, "a")));
    const Bytes ticket = h.target.ticket();
    CHECK(error_of(h.source.vault->export_instance(web, ticket, false)) == Errc::invalid_argument);
    CHECK(h.source.loaded(web) == "one");
    REQUIRE(fine(h.source.vault->export_instance(web, ticket, true)));
    CHECK(error_of(h.source.vault->revert(web, "a")) == Errc::in_use);
    CHECK(error_of(h.source.vault->take_snapshot(web, "b")) == Errc::in_use);
    CHECK(error_of(h.source.vault->clone(web, {"copy", {}, "a"})) == Errc::in_use);
    REQUIRE(fine(h.source.vault->abort_export(web)));
    REQUIRE(fine(h.source.vault->revert(web, "a")));
    CHECK(h.source.vault->get(web)->reverts == 2);
    const auto away = h.source.vault->export_instance(web, h.target.ticket(), true);
    REQUIRE(fine(away));
    CHECK(h.source.vault->journal(0, 1000)->back().subject.find(
              "; not in the package, reverts 2") != std::string::npos);
    const auto there = h.target.vault->import_package(away->package, "", {});
    REQUIRE(fine(there));
    CHECK(there->instance.snapshots == 0);
    CHECK(there->instance.reverts == 0);
    REQUIRE(fine(h.source.vault->confirm_export(web, there->receipt)));
    h.source.vault.reset();
    CHECK(blob(h.source.database(), "SELECT count(*) FROM snapshots") == Bytes{'0'});
}
