// Groups: tenants' instances under keys of their own.
#include "approver.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

Uuid made_in(Fixture& f, const std::string& name, const Uuid& group) {
    const auto instance = f.vault->create({name, 2, {}, group});
    REQUIRE(fine(instance));
    CHECK(instance->group == group);
    return instance->uuid;
}

}  // namespace

TEST_CASE("a closed group's instances cannot be read, the others' can") {
    Fixture f;
    f.set_up();
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    CHECK(tenant->open);
    const Uuid mine = f.made("mine");
    const Uuid theirs = made_in(f, "theirs", tenant->uuid);
    f.stored(mine, 0, "my state");
    f.stored(theirs, 0, "their state");

    const auto closed = f.vault->close_group(tenant->uuid);
    REQUIRE(fine(closed));
    CHECK_FALSE(closed->open);
    CHECK(f.vault->status().closed_groups == 1);
    CHECK(f.vault->status().groups == 2);
    CHECK(error_of(f.vault->load(theirs)) == Errc::locked);
    CHECK(error_of(f.vault->store(theirs, 1, permanent("x"))) == Errc::locked);
    CHECK(error_of(f.vault->check_usable(theirs)) == Errc::locked);
    CHECK(error_of(f.vault->create({"more", 2, {}, tenant->uuid})) == Errc::locked);
    CHECK(f.vault->get(theirs)->state == InstanceState::live);
    CHECK(f.vault->list()->size() == 2);
    CHECK(f.loaded(mine) == "my state");
    CHECK(fine(f.vault->check_usable(mine)));

    // The root key and all other open keys do not help: they are not in the bundle either.
    const auto keys = f.vault->keys_at_hand();
    f.reopen();
    REQUIRE(fine(f.vault->unlock_with_keys(*keys)));
    CHECK(error_of(f.vault->load(theirs)) == Errc::locked);
    CHECK(f.loaded(mine) == "my state");

    REQUIRE(fine(f.vault->open_group(tenant->uuid)));
    CHECK(f.loaded(theirs) == "their state");
    CHECK(f.vault->status().closed_groups == 0);
    f.stored(theirs, 1, "later");
    f.reopen_unlocked();
    CHECK(f.loaded(theirs) == "later");
}

TEST_CASE("each group has its own approver") {
    BoundFixture f;
    f.set_up();
    const auto tenant = f.vault->create_group("tenant", f.approver.wish());
    REQUIRE(fine(tenant));
    const Uuid mine = f.made("mine");
    const Uuid theirs = made_in(f, "theirs", tenant->uuid);
    f.stored(mine, 0, "my state");
    f.stored(theirs, 0, "their state");
    f.reboot();
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(mine) == "my state");
    CHECK(error_of(f.vault->load(theirs)) == Errc::locked);
    const auto found = f.vault->find_group("tenant");
    REQUIRE(fine(found));
    REQUIRE(found->reason);
    CHECK(found->reason->code == Errc::not_approved);
    CHECK(error_of(f.vault->open_group(tenant->uuid)) == Errc::not_approved);
    REQUIRE(fine(f.vault->approve(tenant->uuid, f.signed_for(tenant->uuid))));
    REQUIRE(fine(f.vault->open_group(tenant->uuid)));
    CHECK(f.loaded(theirs) == "their state");
}

TEST_CASE("groups by name and uuid; what cannot be") {
    Fixture f;
    CHECK(error_of(f.vault->groups()) == Errc::not_set_up);
    f.set_up();
    const auto standard = f.vault->find_group("");
    REQUIRE(fine(standard));
    CHECK(standard->is_default);
    CHECK(standard->name == "default");
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    CHECK(f.vault->find_group("tenant")->uuid == tenant->uuid);
    CHECK(f.vault->find_group(tenant->uuid.to_string())->name == "tenant");
    CHECK(f.vault->groups()->size() == 2);
    CHECK(error_of(f.vault->find_group("nobody")) == Errc::not_found);
    CHECK(error_of(f.vault->create_group("tenant", {})) == Errc::already_exists);
    CHECK(error_of(f.vault->create_group("", {})) == Errc::invalid_argument);
    CHECK(error_of(f.vault->create_group("../x", {})) == Errc::invalid_argument);
    CHECK(error_of(f.vault->create_group("x", {"nonsense", {}})) == Errc::invalid_argument);
    CHECK(error_of(f.vault->close_group(standard->uuid)) == Errc::invalid_argument);
    CHECK(error_of(f.vault->remove_group(standard->uuid)) == Errc::invalid_argument);
    CHECK(error_of(f.vault->remove_group(Uuid::random())) == Errc::not_found);
    CHECK(error_of(f.vault->create({"x", 2, {}, Uuid::random()})) == Errc::not_found);

    const Uuid one = made_in(f, "one", tenant->uuid);
    CHECK(error_of(f.vault->remove_group(tenant->uuid)) == Errc::in_use);
    CHECK(f.vault->find_group("tenant")->instances == 1);
    REQUIRE(fine(f.vault->remove(one)));
    REQUIRE(fine(f.vault->remove_group(tenant->uuid)));
    CHECK(error_of(f.vault->find_group("tenant")) == Errc::not_found);
    CHECK(error_of(f.vault->open_group(tenant->uuid)) == Errc::not_found);
    f.reopen_unlocked();
    CHECK(f.vault->groups()->size() == 1);
    // The name is free again, and the new group is another one.
    const auto again = f.vault->create_group("tenant", {});
    REQUIRE(fine(again));
    CHECK(again->uuid != tenant->uuid);
}

TEST_CASE("a group's row that was changed or put back is noticed") {
    Fixture f;
    f.set_up();
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    f.close();
    SECTION("its name") {
        sql(f.database(), "UPDATE groups SET name = 'other' WHERE name = 'tenant'");
    }
    SECTION("its key") {
        sql(f.database(),
            "UPDATE groups SET sealed_private = (SELECT sealed_private FROM groups WHERE id = 1),"
            " sealed_public = (SELECT sealed_public FROM groups WHERE id = 1) WHERE id = 2");
    }
    SECTION("gone") {
        sql(f.database(), "DELETE FROM groups WHERE id = 2");
    }
    SECTION("its approver") {
        sql(f.database(), "UPDATE groups SET approver = x'00' WHERE id = 2");
    }
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
}

TEST_CASE("a recovery brings all groups along") {
    BoundFixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const auto tenant = f.vault->create_group("tenant", f.approver.wish());
    REQUIRE(fine(tenant));
    const Uuid theirs = made_in(f, "theirs", tenant->uuid);
    f.stored(theirs, 0, "their state");
    f.close();
    FakeChip other(2);
    other.set_pcr(4, chip::Digest{1});
    SqliteVault vault(f.directory(), other);
    CHECK(error_of(vault.unlock()) == Errc::wrong_chip);
    REQUIRE(fine(vault.recover(outcome->recovery_key_pem)));
    const auto loaded = vault.load(theirs);
    REQUIRE(fine(loaded));
    CHECK(blob_of(*loaded, BlobKind::permanent) == "their state");
    CHECK(fine(vault.check_recovery_key(outcome->recovery_key_pem)));
}

TEST_CASE("who did what is in the journal, and a change of it shows") {
    Fixture f;
    f.vault->act_for("root (alice)");
    f.set_up();
    const Uuid uuid = f.made("web1");
    REQUIRE(fine(f.vault->rename(uuid, "web2")));
    REQUIRE(fine(f.vault->create_group("tenant", {})));
    f.vault->act_for("vtpmd of domain 5");
    REQUIRE(fine(f.vault->note("open", uuid)));
    f.vault->act_for("");
    REQUIRE(fine(f.vault->remove(uuid)));
    const auto lines = f.vault->journal(0, 100);
    REQUIRE(fine(lines));
    std::vector<std::string> actions;
    for (const auto& line : *lines) {
        CHECK(line.sound);
        CHECK(line.number == actions.size() + 1);
        actions.push_back(line.action);
    }
    CHECK(actions ==
          std::vector<std::string>{"setup", "create", "rename", "group-create", "open", "delete"});
    CHECK(lines->at(1).actor == "root (alice)");
    CHECK(lines->at(1).subject == "web1 (" + uuid.to_string() + ")");
    CHECK(lines->at(4).actor == "vtpmd of domain 5");
    CHECK(lines->at(5).actor == "vtpmmgrd");
    const auto some = f.vault->journal(2, 2);
    REQUIRE(fine(some));
    REQUIRE(some->size() == 2);
    CHECK(some->front().number == 3);
    CHECK(some->front().sound);
    f.close();

    std::size_t unsound = 1;
    SECTION("a line changed") {
        sql(f.database(), "UPDATE journal SET actor = 'nobody' WHERE id = 3");
    }
    SECTION("a line taken out") {
        sql(f.database(), "DELETE FROM journal WHERE id = 3");
    }
    SECTION("the last line taken out") {
        sql(f.database(), "DELETE FROM journal WHERE id = 6");
    }
    SECTION("the first line taken out") {
        sql(f.database(), "DELETE FROM journal WHERE id = 1");
    }
    SECTION("one put in") {
        sql(f.database(),
            "INSERT INTO journal SELECT 7, at, actor, action, subject, previous, mac, kin, other"
            " FROM journal WHERE id = 6");
        unsound = 1;
    }
    SECTION("two in the other's place") {
        sql(f.database(), "UPDATE journal SET id = 100 WHERE id = 2");
        sql(f.database(), "UPDATE journal SET id = 2 WHERE id = 3");
        sql(f.database(), "UPDATE journal SET id = 3 WHERE id = 100");
        unsound = 2;
    }
    f.reopen_unlocked();  // it is no reason to refuse service
    const auto after = f.vault->journal(0, 100);
    REQUIRE(fine(after));
    std::size_t bad = 0;
    for (const auto& line : *after)
        bad += line.sound ? 0 : 1;
    CHECK(bad >= unsound);
}

TEST_CASE("new keys: what was stored stays, the old keys open nothing") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    const Uuid mine = f.made("mine");
    const Uuid theirs = made_in(f, "theirs", tenant->uuid);
    const Uuid gone = f.made("gone");
    f.stored(mine, 0, "my state");
    f.stored(theirs, 0, "their state");
    REQUIRE(fine(f.vault->remove(gone)));
    const auto old_keys = f.vault->keys_at_hand();

    SECTION("of an instance") {
        const auto rotated = f.vault->rotate_instance(mine);
        REQUIRE(fine(rotated));
        CHECK(rotated->generation == 2);
        CHECK(rotated->sequence == 1);
        CHECK(f.loaded(mine) == "my state");
        f.reopen();
        CHECK(fine(f.vault->unlock_with_keys(*old_keys)));  // those are of others
        CHECK(f.vault->get(mine)->generation == 2);
    }
    SECTION("of a group") {
        const auto rotated = f.vault->rotate_group(tenant->uuid);
        REQUIRE(fine(rotated));
        CHECK(rotated->generation == 2);
        CHECK(f.loaded(theirs) == "their state");
        f.reopen();
        CHECK(fine(f.vault->unlock_with_keys(*old_keys)));
        CHECK(f.loaded(theirs) == "their state");  // the chip gives the new one
        CHECK(f.loaded(mine) == "my state");
        REQUIRE(fine(f.vault->close_latch()));
        f.reopen();
        CHECK(fine(f.vault->unlock_with_keys(*old_keys)));
        CHECK(error_of(f.vault->load(theirs)) == Errc::locked);
        f.chip.reset();
    }
    SECTION("of the vault") {
        f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
        CHECK(error_of(f.vault->rotate_root()) == Errc::unavailable);
        f.chip.refuse({});
        f.stored(mine, 1, "my later state");
        REQUIRE(fine(f.vault->rotate_root()));
        f.stored(mine, 2, "my state");
        f.reopen();
        CHECK(error_of(f.vault->unlock_with_keys(*old_keys)) == Errc::corrupt);
    }
    f.reopen_unlocked();
    CHECK(f.loaded(mine) == "my state");
    CHECK(f.loaded(theirs) == "their state");
    CHECK(fine(f.vault->check_recovery_key(outcome->recovery_key_pem)));
    CHECK(error_of(f.vault->create({"again", 2, gone})) == Errc::already_exists);
    f.stored(theirs, 1, "later");
    f.reopen_unlocked();
    CHECK(f.loaded(theirs) == "later");
    const auto lines = f.vault->journal(0, 100);
    REQUIRE(fine(lines));
    for (const auto& line : *lines)
        CHECK(line.sound);
}

TEST_CASE("keys are not changed over what does not verify") {
    Fixture f;
    f.set_up();
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "state");
    f.close();
    sql(f.database(), "UPDATE records SET content = zeroblob(length(content))");
    f.reopen_unlocked();
    CHECK(error_of(f.vault->rotate_instance(uuid)) == Errc::corrupt);
    CHECK(error_of(f.vault->rotate_group(f.vault->find_group("")->uuid)) == Errc::corrupt);
    CHECK(error_of(f.vault->rotate_root()) == Errc::corrupt);
}
