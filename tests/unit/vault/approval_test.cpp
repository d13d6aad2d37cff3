// Boots that an approver has signed, and all others.
#include "approver.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

chip::Digest digest_of(std::uint8_t byte) {
    chip::Digest value{};
    value.fill(byte);
    return value;
}

}  // namespace

TEST_CASE("only an approved boot opens the vault") {
    BoundFixture f;
    f.set_up_bound();
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "state");

    SECTION("nobody has approved one") {
        f.reboot();
        const auto opened = f.vault->unlock();
        CHECK(error_of(opened) == Errc::not_approved);
        CHECK(opened.error().context.find("nobody has approved") != std::string::npos);
        CHECK(f.vault->status().phase == Phase::locked);
        CHECK(error_of(f.vault->load(uuid)) == Errc::locked);
        // While it is locked, it can be approved.
        f.approve_this_boot();
        CHECK(fine(f.vault->unlock()));
        CHECK(f.loaded(uuid) == "state");
    }
    SECTION("this one is") {
        f.approve_this_boot();
        f.reboot();
        CHECK(fine(f.vault->unlock()));
        CHECK(f.loaded(uuid) == "state");
    }
    SECTION("another one is") {
        f.approve_this_boot();
        f.measured(4, 0x99);
        f.reboot();
        const auto opened = f.vault->unlock();
        CHECK(error_of(opened) == Errc::not_approved);
        CHECK(opened.error().context.find("PCR 4 is") != std::string::npos);
        CHECK(opened.error().context.find("7") == std::string::npos);
        // What was approved opens it again; nothing was lost.
        f.measured(4, 0x44);
        f.reboot();
        CHECK(fine(f.vault->unlock()));
        CHECK(f.loaded(uuid) == "state");
    }
    SECTION("the next one is, before it happens") {
        const auto next = f.signed_for(f.default_group(), {{4, digest_of(0x99)}});
        CHECK(fine(f.vault->approve(f.default_group(), next)));
        f.reboot();
        CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
        f.measured(4, 0x99);
        f.reboot();
        CHECK(fine(f.vault->unlock()));
    }
}

TEST_CASE("a statement that the approver has not signed is refused") {
    BoundFixture f;
    f.set_up_bound();
    const Uuid group = f.default_group();
    const auto good = f.signed_for(group);
    auto bad = good;
    auto expected = Errc::not_approved;
    SECTION("other PCRs") {
        bad.pcrs[4] = digest_of(1);
    }
    SECTION("a PCR less") {
        bad.pcrs.erase(4);
        expected = Errc::invalid_argument;
    }
    SECTION("a later end") {
        ++bad.limit;
    }
    SECTION("another signature") {
        bad.signature[bad.signature.size() / 2] ^= 1U;
    }
    SECTION("no signature") {
        bad.signature.clear();
    }
    SECTION("another's") {
        const Approver other;
        bad = other.approval(*f.vault->statement(group, {}, false));
    }
    SECTION("another group's") {
        const auto made = f.vault->create_group("tenant", f.approver.wish());
        REQUIRE(fine(made));
        bad = f.signed_for(made->uuid);
    }
    CHECK(error_of(f.vault->approve(group, bad)) == expected);
    CHECK(f.vault->approvals()->empty());
    f.reboot();
    CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
    CHECK(fine(f.vault->approve(group, good)));
    CHECK(fine(f.vault->unlock()));
}

TEST_CASE("a statement that somebody writes into the database is not believed") {
    BoundFixture f;
    f.set_up_bound();
    f.approve_this_boot();
    f.measured(4, 0x99);
    f.vault.reset();
    Bytes pcrs{4};
    pcrs.resize(33, 0x99);
    pcrs.push_back(7);
    pcrs.resize(66, 0x77);
    sql(f.database(), "UPDATE approvals SET pcrs = x'" + to_hex(pcrs) + "'");
    f.reboot();
    CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
    f.vault.reset();
    sql(f.database(), "UPDATE approvals SET pcrs = zeroblob(5), signature = NULL");
    f.reboot();
    CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
}

TEST_CASE("PCRs into which nothing is measured bind to nothing") {
    BoundFixture f;
    SetupWishes wishes;
    wishes.approver = f.approver.wish({0, 1});
    CHECK(error_of(f.vault->setup(wishes)) == Errc::invalid_argument);
    CHECK(f.vault->status().phase == Phase::not_set_up);
    f.chip.set_pcr(0, digest_of(0xff));
    CHECK(error_of(f.vault->setup(wishes)) == Errc::invalid_argument);
    wishes.approver.pcrs = {16, 23};  // anybody may reset these
    CHECK(error_of(f.vault->setup(wishes)) == Errc::invalid_argument);
    wishes.approver.pcrs = {24};
    CHECK_FALSE(f.vault->setup(wishes));
    wishes.approver = {"", {4}};
    CHECK(error_of(f.vault->setup(wishes)) == Errc::invalid_argument);
    wishes.approver = f.approver.wish({0, 4});
    REQUIRE(fine(f.vault->setup(wishes)));
    CHECK(error_of(f.vault->statement(f.default_group(), {{0, digest_of(0)}, {4, digest_of(0)}},
                                      false)) == Errc::invalid_argument);
    chip::Approval nothing;
    nothing.pcrs = {{0, digest_of(0)}};
    CHECK(error_of(f.vault->approve(f.default_group(), nothing)) == Errc::invalid_argument);
    CHECK(error_of(f.vault->approve(f.default_group(), {})) == Errc::invalid_argument);
    // All NV indices of the attempts were given back.
    std::size_t used = 0;
    for (const auto& cell : f.chip.memory().cells)
        used += cell.defined ? 1 : 0;
    CHECK(used == 3);
}

TEST_CASE("a revocation ends what it does not spare") {
    BoundFixture f;
    f.set_up_bound();
    f.approve_this_boot();
    const Uuid group = f.default_group();
    const auto old = f.vault->approvals()->front().approval;
    CHECK(error_of(f.vault->revoke(false)) == Errc::invalid_argument);

    SECTION("with another one for this boot") {
        const auto spared = f.signed_for(group, {}, true);
        CHECK(spared.limit == old.limit + 1);
        REQUIRE(fine(f.vault->approve(group, spared)));
        CHECK(f.vault->approvals()->size() == 1);  // it took the other's place
        CHECK(fine(f.vault->revoke(false)));
        f.reboot();
        CHECK(fine(f.vault->unlock()));
    }
    SECTION("by force") {
        CHECK(fine(f.vault->revoke(true)));
        CHECK(f.vault->approvals()->empty());
        f.reboot();
        CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
        // The old statement does not come back by being imported again.
        CHECK(fine(f.vault->approve(group, old)));
        CHECK(f.vault->approvals()->front().revoked);
        CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
        f.approve_this_boot();
        CHECK(fine(f.vault->unlock()));
    }
}

TEST_CASE("an approver can be changed, taken away, and brought in later") {
    BoundFixture f;
    f.set_up();
    const Uuid uuid = f.made("web1");
    f.stored(uuid, 0, "state");
    const Uuid group = f.default_group();
    CHECK(f.vault->status().binding.find("not to what was booted") != std::string::npos);
    CHECK(error_of(f.vault->statement(group, {}, false)) == Errc::invalid_argument);
    CHECK(error_of(f.vault->approve(group, {})) == Errc::invalid_argument);

    REQUIRE(fine(f.vault->set_approver(group, f.approver.wish())));
    CHECK(f.vault->status().binding.find("PCRs 4,7") != std::string::npos);
    f.reboot();
    CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
    f.approve_this_boot();
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(uuid) == "state");

    const Approver other;
    REQUIRE(fine(f.vault->set_approver(group, other.wish())));
    f.reboot();
    CHECK(error_of(f.vault->unlock()) == Errc::not_approved);
    const auto statement = f.vault->statement(group, {}, false);
    REQUIRE(fine(statement));
    CHECK(error_of(f.vault->approve(group, f.approver.approval(*statement))) == Errc::not_approved);
    CHECK(fine(f.vault->approve(group, other.approval(*statement))));
    REQUIRE(fine(f.vault->unlock()));

    REQUIRE(fine(f.vault->set_approver(group, {})));
    f.measured(4, 1);
    f.reboot();
    CHECK(fine(f.vault->unlock()));
    CHECK(f.loaded(uuid) == "state");
}

TEST_CASE("a group has no more than 64 approvals") {
    BoundFixture f;
    f.set_up_bound();
    const Uuid group = f.default_group();
    for (std::uint8_t i = 1; i <= 64; ++i)
        REQUIRE(fine(f.vault->approve(group, f.signed_for(group, {{4, digest_of(i)}}))));
    CHECK(error_of(f.vault->approve(group, f.signed_for(group, {{4, digest_of(99)}}))) ==
          Errc::too_large);
    // One that is there already takes its own place.
    CHECK(fine(f.vault->approve(group, f.signed_for(group, {{4, digest_of(9)}}))));
}
