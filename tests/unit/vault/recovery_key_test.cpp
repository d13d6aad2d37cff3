// The recovery key of a vault: made at setup, later, or in place of one that got lost.
#include "fixture.h"
#include "vtpm/vault/escrow.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a recovery key opens the escrow; it can be made later, once") {
    Fixture f;
    SecretBytes pem;
    SECTION("at setup") {
        auto outcome = f.vault->setup(true);
        REQUIRE(fine(outcome));
        pem = std::move(outcome->recovery_key_pem);
    }
    SECTION("later") {
        f.set_up();
        f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
        CHECK(error_of(f.vault->setup(true)) == Errc::unavailable);
        CHECK_FALSE(f.vault->status().recovery);
        f.chip.refuse({});
        auto outcome = f.vault->setup(true);
        REQUIRE(fine(outcome));
        CHECK(outcome->manager == f.vault->status().manager);
        pem = std::move(outcome->recovery_key_pem);
    }
    CHECK(f.vault->status().recovery);
    CHECK(error_of(f.vault->setup(true)) == Errc::already_exists);
    const Uuid manager = f.vault->status().manager;
    f.reopen_unlocked();
    CHECK(f.vault->status().recovery);
    f.close();

    const Bytes escrow = blob(f.database(), "SELECT escrow FROM vault");
    const chip::SealedObject sealed{blob(f.database(), "SELECT root_public FROM vault"),
                                    blob(f.database(), "SELECT root_private FROM vault")};
    const auto opened = open_escrow(pem, escrow);
    REQUIRE(fine(opened));
    CHECK(opened->manager == manager);
    CHECK(opened->groups.size() == 1);
    const auto root = f.chip.unseal(sealed);
    REQUIRE(fine(root));
    CHECK(equal_constant_time(root->view(), opened->root.view()));
}

TEST_CASE("a recovery key that got lost is replaced, on the disk as well") {
    Fixture f;
    CHECK(error_of(f.vault->replace_recovery_key()) == Errc::not_set_up);
    const auto first = f.vault->setup(true);
    REQUIRE(fine(first));
    const auto second = f.vault->replace_recovery_key();
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
    REQUIRE(fine(f.vault->setup(true)));
    f.close();
    sql(f.database(), "UPDATE vault SET escrow = zeroblob(length(escrow))");
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
}
