// The boot latch: after it was closed, keys come from the process before, or from the drawer.
#include "approver.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("once the latch is closed the chip gives the keys no more in this boot") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "state");
    CHECK(f.vault->status().latch == LatchState::open);
    const auto keys = f.vault->keys_at_hand();
    REQUIRE(fine(keys));
    REQUIRE(fine(f.vault->close_latch()));
    CHECK(f.vault->status().latch == LatchState::closed);
    CHECK(f.loaded(uuid) == "state");

    f.reopen();
    const auto opened = f.vault->unlock();
    CHECK(error_of(opened) == Errc::latched);
    CHECK(opened.error().context.find("vtpmctl unlock") != std::string::npos);
    CHECK(error_of(f.vault->keys_at_hand()) == Errc::locked);
    CHECK(error_of(f.vault->close_latch()) == Errc::locked);

    SECTION("the keys of the process before") {
        REQUIRE(fine(f.vault->unlock_with_keys(*keys)));
        CHECK(f.vault->status().latch == LatchState::closed);
        CHECK(f.loaded(uuid) == "state");
        f.stored(uuid, 1, "later");
    }
    SECTION("the recovery key") {
        CHECK(error_of(f.vault->unlock_with_recovery_key(secret_of("none"))) ==
              Errc::invalid_argument);
        REQUIRE(fine(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)));
        CHECK(f.loaded(uuid) == "state");
        CHECK(f.vault->status().freshness->recoveries == 0);
        const auto lines = f.vault->journal(0, 100);
        REQUIRE(fine(lines));
        CHECK(lines->back().action == "unlock");
    }
    SECTION("the next boot") {
        f.chip.reset();
        REQUIRE(fine(f.vault->unlock()));
        CHECK(f.vault->status().latch == LatchState::open);
        CHECK(f.loaded(uuid) == "state");
    }
    SECTION("what a stranger offers") {
        Fixture other;
        other.set_up();
        CHECK(error_of(f.vault->unlock_with_keys(*other.vault->keys_at_hand())) ==
              Errc::invalid_argument);
        CHECK(error_of(f.vault->unlock_with_keys(secret_of("x"))) == Errc::malformed);
        CHECK(error_of(f.vault->unlock_with_keys({})) == Errc::malformed);
        auto longer = SecretBytes(keys->size() + 1);
        CHECK(error_of(f.vault->unlock_with_keys(longer)) == Errc::malformed);
        CHECK(f.vault->status().phase == Phase::locked);
    }
}

TEST_CASE("keys from elsewhere do not open an older state, nor another chip") {
    Fixture f;
    f.set_up();
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "old");
    REQUIRE(fine(f.vault->close()));
    const auto keys = f.vault->keys_at_hand();
    f.vault.reset();
    const Bytes old = slurp(f.database());
    f.reopen_unlocked();
    f.stored(uuid, 1, "new");
    f.close();
    SECTION("an older state") {
        spit(f.database(), old);
        f.reopen();
        CHECK(error_of(f.vault->unlock_with_keys(*keys)) == Errc::rolled_back);
    }
    SECTION("another chip") {
        FakeChip other(2);
        SqliteVault vault(f.directory(), other);
        CHECK(error_of(vault.unlock_with_keys(*keys)) == Errc::wrong_chip);
    }
}

TEST_CASE("groups that are made, and approvers that come, after the latch was closed") {
    BoundFixture f;
    f.set_up_bound();
    f.approve_this_boot();
    REQUIRE(fine(f.vault->close_latch()));
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    CHECK_FALSE(tenant->approver.empty());  // the default group's: not unbound by oversight
    REQUIRE(fine(f.vault->approve(tenant->uuid, f.signed_for(tenant->uuid))));
    REQUIRE(fine(f.vault->set_approver(f.default_group(), f.approver.wish({4}))));
    f.approve_this_boot();
    const auto made = f.vault->create({"web1", 2, {}, tenant->uuid});
    REQUIRE(fine(made));
    f.stored(made->uuid, 0, "state");
    f.reboot();
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(made->uuid) == "state");
}

TEST_CASE("a vault without a latch") {
    Fixture f;
    SetupWishes wishes;
    wishes.latch = false;
    REQUIRE(fine(f.vault->setup(wishes)));
    CHECK(f.vault->status().latch == LatchState::none);
    CHECK(fine(f.vault->close_latch()));
    f.reopen_unlocked();
    CHECK(f.vault->status().latch == LatchState::none);
}

TEST_CASE("a latch that was replaced is a closed one, and a recovery makes another") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const auto latch = static_cast<chip::CellIndex>(0x01800102);
    REQUIRE(f.chip.memory().at(latch)->kind == fakes::FakeChipMemory::Kind::latch);
    const auto tag = f.chip.memory().at(latch)->tag;
    REQUIRE(fine(f.chip.remove_cell(latch)));
    REQUIRE(f.chip.define_latch(tag)->index == latch);
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::latched);
    f.chip.reset();
    CHECK(error_of(f.vault->unlock()) == Errc::latched);
    REQUIRE(fine(f.vault->recover(outcome->recovery_key_pem)));
    f.reopen_unlocked();
}
