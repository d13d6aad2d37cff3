// The journal's lines about approvals that came while nothing could be written into it.
#include "approver.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

std::vector<Event> approvals_in(const std::vector<Event>& lines) {
    std::vector<Event> out;
    for (const auto& line : lines) {
        CHECK(line.sound);
        if (line.action == "approve")
            out.push_back(line);
    }
    return out;
}

std::vector<Event> approvals_told(SqliteVault& vault) {
    const auto lines = vault.journal(0, 100);
    REQUIRE(fine(lines));
    return approvals_in(*lines);
}

}  // namespace

TEST_CASE("an approval that comes while the vault is locked is in the journal once it is open") {
    BoundFixture f;
    f.set_up_bound();
    f.reboot();
    REQUIRE(error_of(f.vault->unlock()) == Errc::not_approved);
    f.vault->act_for("root (alice)");
    f.approve_this_boot();
    const std::int64_t when = f.vault->approvals()->front().made;
    SECTION("at once") {}
    SECTION("by another process, some other day") {
        f.vault.reset();
        sql(f.database(), "UPDATE approvals SET made = made - 86400");
        f.vault.emplace(f.directory(), f.chip);
    }
    f.vault->act_for("root (bob)");
    const std::int64_t made = f.vault->approvals()->front().made;
    CHECK((made == when || made == when - 86400));
    REQUIRE(fine(f.vault->unlock()));
    const auto lines = approvals_told(*f.vault);
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].actor == "root (alice)");
    CHECK(lines[0].at == made);
    CHECK(lines[0].subject.find("default (" + f.default_group().to_string() +
                                "), while the vault was locked") != std::string::npos);
    // Once.
    f.vault->act_for("root (bob)");
    f.reopen_unlocked();
    CHECK(approvals_told(*f.vault).size() == 1);
    // One that comes while the vault is open has its line at once, and has it once as well.
    f.vault->act_for("root (carol)");
    REQUIRE(fine(f.vault->approve(f.default_group(), f.signed_for(f.default_group(), {}, true))));
    CHECK(approvals_told(*f.vault).size() == 2);
    f.reopen_unlocked();
    const auto all = approvals_told(*f.vault);
    REQUIRE(all.size() == 2);
    CHECK(all[1].actor == "root (carol)");
    CHECK(all[1].subject.find("locked") == std::string::npos);
}

TEST_CASE("nobody has lines written about approvals that no approver has signed") {
    BoundFixture f;
    f.set_up_bound();
    f.approve_this_boot();
    f.close();
    sql(f.database(),
        "INSERT INTO approvals SELECT 100, group_uuid, made, counter_limit + 1, pcrs, signature,"
        " 'root (eve)' FROM approvals");
    f.reopen_unlocked();
    CHECK(approvals_told(*f.vault).size() == 1);
    f.close();
    CHECK(blob(f.database(), "SELECT count(*) FROM approvals WHERE actor IS NOT NULL") ==
          Bytes{'0'});
}

TEST_CASE("all approvals of a locked vault are told, of all groups, and after a recovery, too") {
    BoundFixture f;
    SetupWishes wishes;
    wishes.approver = f.approver.wish();
    const auto outcome = set_up_with_key(*f.vault, wishes);
    REQUIRE(fine(outcome));
    const auto tenant = f.vault->create_group("tenant", f.approver.wish());
    REQUIRE(fine(tenant));
    f.reboot();
    REQUIRE(error_of(f.vault->unlock()) == Errc::not_approved);
    f.measured(4, 0x99);
    f.approve_this_boot();
    REQUIRE(fine(f.vault->approve(tenant->uuid, f.signed_for(tenant->uuid))));
    f.measured(4, 0x44);
    REQUIRE(fine(f.vault->unlock_with_recovery_key(outcome->recovery_key_pem)));
    const auto lines = approvals_told(*f.vault);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0].subject.find("default") != std::string::npos);
    CHECK(lines[1].subject.find("tenant") != std::string::npos);
    CHECK(lines[1].actor == "vtpmmgrd");
}
