#include <algorithm>
#include <catch2/catch.hpp>
#include <iostream>
#include <sstream>

#include "doctor.h"
#include "fake_manager.h"
#include "group_commands.h"
#include "policy_presentation.h"

using namespace vtpm;
using namespace vtpm::control;
using tests::FakeManager;
using tests::Scratch;
using wire::proto::Reply;
using wire::proto::Request;

namespace {

// A journal of 5 lines in pages of 2; line 4 is not sound.
Reply journal(const Request& request) {
    Reply reply;
    auto& page = *reply.mutable_log();
    for (auto number = request.log().after() + 1; number <= 5 && page.line_size() < 2; ++number) {
        auto& line = *page.add_line();
        line.set_number(number);
        line.set_sound(number != 4);
    }
    page.set_more(request.log().after() + 2 < 5);
    return reply;
}

wire::proto::Group group(const std::string& name, bool approver) {
    wire::proto::Group group;
    group.set_uuid(std::string(15, 'g') + name);
    group.set_name(name);
    if (approver)
        group.set_approver(std::string(32, 'a'));
    return group;
}

wire::proto::Approval approval(const wire::proto::Group& group, bool this_boot, bool revoked) {
    wire::proto::Approval approval;
    approval.set_group(group.uuid());
    approval.set_this_boot(this_boot);
    approval.set_revoked(revoked);
    return approval;
}

bool warns(const std::vector<Finding>& findings, const std::string& text) {
    return std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) {
        return finding.health == Health::warning && finding.text.find(text) != std::string::npos;
    });
}

}  // namespace

TEST_CASE("the log is read to its end, and what is not sound is an error") {
    FakeManager manager{journal};
    const auto done = control::log(manager.connection(), 0, {true});
    REQUIRE_FALSE(done.has_value());
    CHECK(exit_code(done.error()) == 1);
    CHECK(manager.asked().size() == 3);
    FakeManager again{journal};
    CHECK(control::log(again.connection(), 4, {true}).has_value());
}

TEST_CASE("a log without an end does not keep us") {
    FakeManager manager{[](const Request&) {
        Reply reply;
        reply.mutable_log()->add_line()->set_sound(true);  // always number 0
        reply.mutable_log()->set_more(true);
        return reply;
    }};
    CHECK(control::log(manager.connection(), 0, {true}).has_value());
}

TEST_CASE("the log's table flags what was changed, and steers no terminal") {
    wire::proto::LogLine line;
    line.set_number(3);
    line.set_actor("root\x1b[2J");
    line.set_sound(false);
    const auto text = table(std::vector{line});
    CHECK(text.find("!!!") != std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
    line.set_sound(true);
    CHECK(table(std::vector{line}).find("!!!") == std::string::npos);
}

TEST_CASE("setup leaves a host alone that is set up, whatever else was asked for") {
    const Scratch scratch;
    scratch.write("public", "-----BEGIN PUBLIC KEY-----\n");
    SetupOptions options;
    options.recovery_out = scratch.file("recovery");
    options.approver.key = scratch.file("public");
    FakeManager manager{[](const Request&) {
        Reply reply;
        reply.mutable_status()->set_phase("open");
        return reply;
    }};
    const auto done = setup(manager.connection(), options, {true});
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().code == Errc::already_exists);
    CHECK_FALSE(scratch.has("recovery"));
    for (const auto& request : manager.asked())
        CHECK_FALSE(request.has_setup());
}

TEST_CASE("setup sends its wishes, and of the recovery key the public half") {
    const Scratch scratch;
    scratch.write("public", "-----BEGIN PUBLIC KEY-----\n");
    SetupOptions options;
    options.recovery_out = scratch.file("recovery");
    options.approver = {scratch.file("public"), {0, 7}};
    options.no_latch = true;
    std::string when_asked;
    std::string told;
    std::ostringstream errors;
    auto* const before = std::cerr.rdbuf(errors.rdbuf());
    FakeManager manager{[&](const Request& request) {
        Reply reply;
        if (request.has_setup())
            reply.mutable_setup();
        else if (request.has_status())
            reply.mutable_status()->set_phase("not-set-up");
        // Whatever becomes of us and of vtpmctl from here on: its owner has it.
        if (request.has_setup()) {
            when_asked = scratch.read("recovery");
            told = errors.str();
        }
        return reply;
    }};
    const auto done = setup(manager.connection(), options, {true});
    std::cerr.rdbuf(before);
    REQUIRE(done.has_value());
    CHECK(told.find("may be in force from now on") != std::string::npos);
    CHECK(std::count(told.begin(), told.end(), '\n') == 1);
    REQUIRE(manager.asked().size() == 3);  // the last one is for the proof, see below
    const auto sent = manager.asked().at(1).setup();
    CHECK(scratch.read("recovery") == when_asked);
    CHECK((std::filesystem::status(scratch.file("recovery")).permissions() &
           std::filesystem::perms::all) ==
          (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
    scratch.write("sent", sent.recovery_public());
    REQUIRE(scratch.run("openssl pkey -in recovery -pubout -out public-half"));
    CHECK(scratch.read("public-half") == scratch.read("sent"));
    CHECK(sent.SerializeAsString().find("PRIVATE") == std::string::npos);
    CHECK(sent.no_latch());
    CHECK(sent.approver().key() == "-----BEGIN PUBLIC KEY-----\n");
    CHECK(sent.approver().pcr_size() == 2);
}

TEST_CASE("a recovery key is proved to open what was escrowed to it, before setup is done") {
    const Scratch scratch;
    SetupOptions options;
    options.recovery_out = scratch.file("recovery");
    options.replace_key = GENERATE(false, true);
    const bool good = GENERATE(true, false);
    std::string proof;
    FakeManager* asked = nullptr;
    FakeManager manager{[&](const Request& request) {
        Reply reply;
        if (request.has_setup()) {
            CHECK(asked->given.empty());  // the private half goes nowhere but into the file
            reply.mutable_setup();
            return reply;
        }
        const auto given = asked->given.view();
        proof.assign(given.begin(), given.end());
        return good ? reply : vtpm::tests::refusal(Errc::corrupt, "an escrow gives another key");
    }};
    asked = &manager;
    std::ostringstream said;
    std::ostringstream errors;
    auto* const out = std::cout.rdbuf(said.rdbuf());
    auto* const err = std::cerr.rdbuf(errors.rdbuf());
    const auto done = setup(manager.connection(), options, {});
    std::cout.rdbuf(out);
    std::cerr.rdbuf(err);

    REQUIRE(manager.asked().size() == 2);
    CHECK(manager.asked().back().has_check_recovery_key());
    CHECK_FALSE(proof.empty());
    CHECK(proof == scratch.read("recovery"));
    REQUIRE(done.has_value() == good);
    if (good) {
        CHECK(said.str().find("opens what was escrowed to it") != std::string::npos);
        return;
    }
    CHECK(said.str().empty());
    CHECK(done.error().code == Errc::corrupt);
    for (const auto* const words : {"is set up", "an escrow gives another key", "Keep the file",
                                    "vtpmctl check-recovery-key ", "--replace-recovery-key"})
        CHECK(done.error().context.find(words) != std::string::npos);
}

TEST_CASE("whoever gives the public half of a recovery key is told to try the private one") {
    const Scratch scratch;
    scratch.write("public", "-----BEGIN PUBLIC KEY-----\n");
    SetupOptions options;
    options.recovery_public = scratch.file("public");
    FakeManager manager{[](const Request&) {
        Reply reply;
        reply.mutable_setup();
        return reply;
    }};
    std::ostringstream said;
    auto* const out = std::cout.rdbuf(said.rdbuf());
    const auto done = setup(manager.connection(), options, {});
    std::cout.rdbuf(out);
    REQUIRE(done.has_value());
    CHECK(manager.asked().size() == 1);
    const auto next = said.str().find("Next: ");
    REQUIRE(next != std::string::npos);
    CHECK(said.str().find("vtpmctl check-recovery-key", next) != std::string::npos);
}

TEST_CASE("a recovery key that may be in force is kept, and one that is not is not") {
    const auto kept_after = [](Errc code) {
        const Scratch scratch;
        SetupOptions options;
        options.recovery_out = scratch.file("recovery");
        options.replace_key = true;
        FakeManager manager{[&](const Request&) { return vtpm::tests::refusal(code, "because"); }};
        const auto done = setup(manager.connection(), options, {true});
        REQUIRE_FALSE(done.has_value());
        CHECK(done.error().code == code);
        const bool told = done.error().context.find("check-recovery-key") != std::string::npos;
        CHECK(scratch.has("recovery") == told);
        return told;
    };
    CHECK(kept_after(Errc::io));  // the last word is not spoken: see Vault
    CHECK_FALSE(kept_after(Errc::locked));
    CHECK_FALSE(kept_after(Errc::not_set_up));
}

TEST_CASE("a group is found by its name or its uuid") {
    const auto web = group("w", false);
    const auto other = group("o", true);
    const auto uuid = Uuid::from_bytes(as_bytes(other.uuid())).value().to_string();
    for (const auto& [selector, code] :
         {std::pair<std::string, int>("w", 0), {uuid, 0}, {"x", 5}}) {
        FakeManager manager{[&](const Request&) {
            Reply reply;
            *reply.mutable_groups()->add_group() = web;
            *reply.mutable_groups()->add_group() = other;
            return reply;
        }};
        const auto done = group_show(manager.connection(), selector, {true});
        CHECK((done ? 0 : exit_code(done.error())) == code);
    }
}

TEST_CASE("doctor warns of a start that would be locked, and of one that nobody decides about") {
    const auto plain = group("p", false);
    const auto bound = group("b", true);
    const auto other = group("o", true);
    CHECK(warns(examine_approvals({plain}, {}), "nobody approves"));
    CHECK_FALSE(warns(examine_approvals({plain, bound}, {}), "nobody approves"));
    CHECK(warns(examine_approvals({bound}, {}), "locked"));
    CHECK(warns(examine_approvals({bound}, {approval(bound, false, false)}), "locked"));
    CHECK(warns(examine_approvals({bound}, {approval(bound, true, true)}), "locked"));
    CHECK(warns(examine_approvals({bound}, {approval(other, true, false)}), "locked"));
    CHECK_FALSE(warns(examine_approvals({bound}, {approval(bound, true, false)}), ""));
}

TEST_CASE("this boot is not approved, and the latch is closed: exit code 4, and a way out each") {
    const Error refused{Errc::not_approved, NextAction::ask_operator, ""};
    CHECK(exit_code(refused) == 4);
    CHECK(advice(refused).find("approve this-boot") != std::string::npos);
    const Error latched{Errc::latched, NextAction::ask_operator, ""};
    CHECK(exit_code(latched) == 4);
    CHECK(advice(latched).find("Reboot") != std::string::npos);
    CHECK(advice(latched).find("unlock --recovery-key") != std::string::npos);
}
