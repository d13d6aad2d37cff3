// The recovery key of a vault: made at setup, later, or in place of one that got lost.
#include "fixture.h"
#include "vtpm/vault/escrow.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a recovery key opens the escrow; it can be made later, once") {
    Fixture f;
    SecretBytes pem;
    SECTION("at setup") {
        auto outcome = set_up_with_key(*f.vault);
        REQUIRE(fine(outcome));
        pem = std::move(outcome->recovery_key_pem);
    }
    SECTION("later") {
        f.set_up();
        CHECK_FALSE(f.vault->status().recovery);
        auto outcome = set_up_with_key(*f.vault);
        REQUIRE(fine(outcome));
        CHECK(outcome->manager == f.vault->status().manager);
        pem = std::move(outcome->recovery_key_pem);
    }
    CHECK(f.vault->status().recovery);
    CHECK(error_of(set_up_with_key(*f.vault)) == Errc::already_exists);
    const Uuid manager = f.vault->status().manager;
    f.reopen_unlocked();
    CHECK(f.vault->status().recovery);
    f.close();

    const auto root = open_escrow(pem, blob(f.database(), "SELECT escrow FROM vault"));
    REQUIRE(fine(root));
    CHECK(root->manager == manager);
    CHECK(root->owner == manager);
    const auto group = open_escrow(pem, blob(f.database(), "SELECT escrow FROM groups"));
    REQUIRE(fine(group));
    CHECK(group->manager == manager);
    CHECK(group->owner.bytes()[0] == blob(f.database(), "SELECT default_group FROM vault").front());
    f.reopen_unlocked();
    CHECK(fine(f.vault->check_recovery_key(pem)));
    CHECK(error_of(f.vault->check_recovery_key(recovery_pair().private_pem)) ==
          Errc::invalid_argument);
}

TEST_CASE("a recovery key that got lost is replaced, on the disk as well") {
    Fixture f;
    CHECK(error_of(replace_key(*f.vault)) == Errc::not_set_up);
    const auto first = set_up_with_key(*f.vault);
    REQUIRE(fine(first));
    const auto second = replace_key(*f.vault);
    REQUIRE(fine(second));
    CHECK(second->manager == first->manager);
    f.reopen_unlocked();
    CHECK(f.vault->status().recovery);
    f.close();
    const Bytes escrow = blob(f.database(), "SELECT escrow FROM vault");
    CHECK(fine(open_escrow(second->recovery_key_pem, escrow)));
    CHECK_FALSE(open_escrow(first->recovery_key_pem, escrow));
}

TEST_CASE("an escrow put in place of ours is noticed") {
    Fixture f;
    REQUIRE(fine(set_up_with_key(*f.vault)));
    f.close();
    sql(f.database(), "UPDATE vault SET escrow = zeroblob(length(escrow))");
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
}

namespace {

// A vault with a state, and a copy of its directory that is older than what the chip remembers.
struct RolledBack : Fixture {
    Uuid a;
    SecretBytes pem;

    explicit RolledBack(bool with_key) {
        if (with_key) {
            auto outcome = set_up_with_key(*vault);
            REQUIRE(fine(outcome));
            pem = std::move(outcome->recovery_key_pem);
        } else {
            set_up();
        }
        a = made("a");
        stored(a, 0, "the older state");
        close();
        const Bytes older = slurp(database());
        reopen_unlocked();
        stored(a, 1, "the newer state");
        close();
        spit(database(), older);
        reopen();
        REQUIRE(error_of(vault->unlock()) == Errc::rolled_back);
    }
};

}  // namespace

TEST_CASE("an older state is taken for the newest on the word of who has the recovery key") {
    RolledBack f(true);
    CHECK(error_of(f.vault->recover(SecretBytes())) == Errc::invalid_argument);
    CHECK(error_of(f.vault->recover(recovery_pair().private_pem)) == Errc::invalid_argument);
    CHECK(f.vault->status().phase == Phase::locked);
    REQUIRE(fine(f.vault->recover(f.pem)));
    CHECK(f.loaded(f.a) == "the older state");
    CHECK(f.vault->status().freshness->recoveries == 1);
    CHECK(error_of(f.vault->recover(f.pem)) == Errc::invalid_argument);  // nothing to recover
    f.stored(f.a, 1, "and it goes on");
    f.close();
    f.reopen_unlocked();
    CHECK(f.loaded(f.a) == "and it goes on");
    CHECK(f.vault->status().freshness->recoveries == 1);
}

TEST_CASE("a vault without a recovery key is recovered beside its own chip only") {
    RolledBack f(false);
    CHECK(error_of(f.vault->recover(recovery_pair().private_pem)) == Errc::invalid_argument);
    SECTION("its own") {
        REQUIRE(fine(f.vault->recover(SecretBytes())));
        CHECK(f.loaded(f.a) == "the older state");
    }
    SECTION("another") {
        fakes::FakeChip other(2);
        f.vault.reset();
        f.vault.emplace(f.directory(), other);
        CHECK(error_of(f.vault->recover(SecretBytes())) == Errc::wrong_chip);
        f.vault.reset();
    }
}

TEST_CASE("a new mainboard") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const Uuid a = f.made("a");
    f.stored(a, 0, "state");
    f.close();
    fakes::FakeChip other(2);
    f.vault.emplace(f.directory(), other);
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_chip);
    // Whoever is refused reads the ways out.
    const auto refused = f.vault->load(a);
    REQUIRE(error_of(refused) == Errc::locked);
    CHECK(refused.error().context.find("Put back the chip") != std::string::npos);
    CHECK(refused.error().context.find("vtpmctl recover --recovery-key") != std::string::npos);
    REQUIRE(fine(f.vault->recover(outcome->recovery_key_pem)));
    CHECK(f.loaded(a) == "state");
    f.stored(a, 1, "newer");
    f.close();
    f.vault.emplace(f.directory(), other);
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(a) == "newer");
    f.vault.reset();
    // The old one is out: it knows neither the keys nor the state.
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_chip);
}

TEST_CASE("a lost cell is made anew; a recovery that fails half-way can be repeated") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const Uuid a = f.made("a");
    f.stored(a, 0, "state");
    f.close();
    f.chip.memory()[0].defined = false;
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_cell);
    const Error gone{Errc::unavailable, NextAction::retry_later, "gone"};
    for (int nth = 1;; ++nth) {
        INFO("call " << nth);
        REQUIRE(nth < 100);
        f.reopen();
        f.chip.fail_nth(nth, gone);
        const auto done = f.vault->recover(outcome->recovery_key_pem);
        f.chip.fail_nth(0, gone);
        if (done)
            break;
        f.reopen();
        if (f.vault->unlock())  // it had been done, only the answer was lost
            break;
    }
    CHECK(f.loaded(a) == "state");
    f.stored(a, 1, "newer");
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "newer");
}

TEST_CASE("after recoveries only the last cell vouches for a state") {
    Fixture f;
    auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const SecretBytes& pem = outcome->recovery_key_pem;
    const Uuid a = f.made("a");
    f.stored(a, 0, "of the first cell");
    f.close();
    const Bytes backup = slurp(f.database());
    // The cell is lost; a second one takes its place, by another authorization value.
    f.chip.memory()[0].defined = false;
    f.reopen();
    REQUIRE(fine(f.vault->recover(pem)));
    f.stored(a, 1, "of the second cell");
    f.close();
    const Bytes second = slurp(f.database());
    // The backup is restored: it knows nothing of the second cell, and gets a third.
    spit(f.database(), backup);
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_cell);
    REQUIRE(fine(f.vault->recover(pem)));
    f.stored(a, 1, "of the third cell");
    f.close();
    spit(f.database(), second);
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_cell);
    CHECK(f.vault->status().phase == Phase::locked);
}

TEST_CASE("a chip that is away is no reason to do without its word") {
    RolledBack f(true);
    f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
    CHECK(error_of(f.vault->recover(f.pem)) == Errc::unavailable);
    f.chip.refuse({});
    CHECK(error_of(f.vault->unlock()) == Errc::rolled_back);
}

TEST_CASE("what is not whole is not recovered") {
    RolledBack f(true);
    f.vault.reset();
    SECTION("a row is missing") {
        sql(f.database(), "DELETE FROM instances");
    }
    SECTION("the vault's row") {
        sql(f.database(), "UPDATE vault SET created = 1");
    }
    SECTION("the group's") {
        sql(f.database(), "UPDATE groups SET name = 'x'");
    }
    f.reopen();
    CHECK(error_of(f.vault->recover(f.pem)) == Errc::corrupt);
    CHECK(f.vault->status().phase == Phase::locked);
}

TEST_CASE("a recovery key that could not be used any more is not made") {
    Fixture f;
    const auto first = set_up_with_key(*f.vault);
    REQUIRE(fine(first));
    REQUIRE(fine(f.chip.remove_cell(0x01800100)));  // the commit cell
    CHECK(error_of(replace_key(*f.vault)) == Errc::wrong_cell);
    CHECK(f.vault->status().phase == Phase::locked);
    // The old one is still the vault's.
    REQUIRE(fine(f.vault->recover(first->recovery_key_pem)));
    f.reopen_unlocked();
    CHECK(f.vault->status().freshness->recoveries == 1);
}

TEST_CASE("a recovery key that is the vault's is said to be, whatever else goes wrong") {
    bool refused = false;
    bool locked_after = false;
    bool undisturbed = false;
    for (int nth = 1; !undisturbed; ++nth) {
        INFO("somebody takes the commit cells away before call " << nth);
        REQUIRE(nth < 60);
        Fixture f;
        REQUIRE(fine(set_up_with_key(*f.vault)));
        int calls = 0;
        f.chip.on_call([&] {
            if (++calls != nth)
                return;
            for (auto& cell : f.chip.memory().cells)
                cell.defined = cell.defined && cell.kind != fakes::FakeChipMemory::Kind::cell;
        });
        const RecoveryPair pair = recovery_pair();
        const auto done = f.vault->replace_recovery_key(pair.public_pem);
        f.chip.on_call(nullptr);
        undisturbed = calls < nth;
        refused = refused || !done;
        locked_after = locked_after || (done && f.vault->status().phase == Phase::locked);
        f.vault.reset();
        const auto opened =
            open_escrow(pair.private_pem, blob(f.database(), "SELECT escrow FROM vault"));
        CHECK(opened.has_value() == done.has_value());
    }
    CHECK(refused);
    CHECK(locked_after);
}

TEST_CASE("a recovery accepts nothing where there is nothing to accept") {
    Fixture f;
    const auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "old");
    REQUIRE(fine(f.vault->close()));
    REQUIRE(fine(f.vault->close_latch()));
    f.vault.reset();
    const Bytes old = slurp(f.database());
    f.vault.emplace(f.directory(), f.chip);
    SECTION("the newest state, on a boot that has had its keys") {
        REQUIRE(fine(f.vault->recover(outcome->recovery_key_pem)));
        CHECK(f.vault->status().freshness->recoveries == 0);
    }
    SECTION("an older one") {
        REQUIRE(fine(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)));
        f.stored(uuid, 1, "new");
        f.close();
        spit(f.database(), old);
        f.reopen();
        CHECK(error_of(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)) ==
              Errc::rolled_back);
        // The alarm stays, whatever is tried next.
        CHECK(error_of(f.vault->unlock()) == Errc::latched);
        CHECK(f.vault->status().reason->code == Errc::rolled_back);
        REQUIRE(fine(f.vault->recover(outcome->recovery_key_pem)));
        CHECK(f.vault->status().freshness->recoveries == 1);
    }
    CHECK(f.loaded(uuid) == "old");
}

TEST_CASE("closed groups of an open vault open with the recovery key") {
    Fixture f;
    const auto outcome = set_up_with_key(*f.vault);
    REQUIRE(fine(outcome));
    CHECK(error_of(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)) ==
          Errc::invalid_argument);
    const auto tenant = f.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    REQUIRE(fine(f.vault->close_group(tenant->uuid)));
    REQUIRE(fine(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)));
    CHECK(f.vault->find_group("tenant")->open);
}
