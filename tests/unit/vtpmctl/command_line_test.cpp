#include "command_line.h"

#include <catch2/catch.hpp>

using namespace vtpm::control;

namespace {

struct Parsed {
    bool understood = false;
    std::string command;
    Arguments arguments;
    std::string objection;  // empty: none
};

Parsed parse(std::vector<std::string> words) {
    Parsed parsed;
    CLI::App app("", "vtpmctl");
    describe_commands(app, parsed.arguments);
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    try {
        app.parse(words);
    } catch (const CLI::ParseError&) {
        return parsed;
    }
    parsed.understood = true;
    parsed.command = command_of(app);
    parsed.objection = objection(parsed.command, parsed.arguments).value_or("");
    return parsed;
}

bool accepted(const std::vector<std::string>& words) {
    const auto parsed = parse(words);
    return parsed.understood && parsed.objection.empty();
}

}  // namespace

TEST_CASE("commands of one word and of two") {
    CHECK(parse({"status"}).command == "status");
    CHECK(parse({"--json", "group", "list"}).command == "group list");
    const auto list = parse({"group", "list", "--json", "--socket", "/x"});
    CHECK(list.command == "group list");
    CHECK(list.arguments.output.json);
    CHECK(list.arguments.socket == "/x");
    for (const char* incomplete : {"approve", "group"})
        CHECK_FALSE(parse({incomplete}).understood);
    CHECK_FALSE(parse({"group", "frobnicate"}).understood);
}

TEST_CASE("sync is on or off, of a TPM that is named") {
    const auto on = parse({"sync", "web1", "on"});
    REQUIRE(on.understood);
    CHECK(on.arguments.selector == "web1");
    CHECK(on.arguments.sync);
    CHECK_FALSE(parse({"sync", "web1", "off"}).arguments.sync);
    CHECK(accepted({"sync", "web1", "off"}));
    for (const auto& words : {std::vector<std::string>{"sync"},
                              {"sync", "web1"},
                              {"sync", "web1", "maybe"},
                              {"sync", "web1", "on", "off"}})
        CHECK_FALSE(parse(words).understood);
    CHECK(parse({"import-swtpm", "d", "--name", "a", "--sync"}).arguments.import_swtpm.sync);
}

TEST_CASE("setup takes one recovery key and one approver") {
    const auto setup = parse({"setup", "--recovery-public", "r.pem", "--approver", "a.pem",
                              "--pcrs", "0,2,23", "--no-latch"});
    REQUIRE(setup.understood);
    CHECK(setup.arguments.setup.recovery_public == "r.pem");
    CHECK(setup.arguments.setup.approver.key == "a.pem");
    CHECK(setup.arguments.setup.approver.pcrs == std::vector<std::uint32_t>{0, 2, 23});
    CHECK(setup.arguments.setup.no_latch);
    CHECK_FALSE(accepted({"setup", "--recovery-public", "r", "--recovery-out", "o"}));
    CHECK_FALSE(accepted({"setup", "--pcrs", "0"}));
    CHECK_FALSE(accepted({"setup", "--approver", "a", "--pcrs", "0,24"}));
    CHECK_FALSE(accepted({"setup", "--approver", "a", "--pcrs", "-1"}));
    CHECK_FALSE(accepted({"setup", "--approver", "a", "--pcrs", "0x4"}));
    CHECK_FALSE(accepted({"setup", "--replace-recovery-key"}));
    CHECK(accepted({"setup", "--replace-recovery-key", "--recovery-public", "r"}));
    CHECK(accepted({"setup", "--replace-recovery-key", "--recovery-out", "r"}));
    CHECK_FALSE(
        accepted({"setup", "--replace-recovery-key", "--recovery-out", "r", "--approver", "a"}));
}

TEST_CASE("a policy changes what is named and nothing else") {
    CHECK(accepted({"policy", "web1"}));
    CHECK_FALSE(accepted({"policy"}));
    CHECK_FALSE(accepted({"policy", "web1", "--localities", "4"}));
    const auto none = parse({"policy", "web1", "--deny", "TPM2_Clear", "0x121"});
    CHECK(none.arguments.policy.deny == std::vector<std::string>{"TPM2_Clear", "0x121"});
    CHECK_FALSE(none.arguments.policy.vendor.has_value());
    const auto all =
        parse({"policy", "web1", "--localities", "0,2", "--vendor", "--no-maintenance"});
    CHECK(all.arguments.policy.localities == std::vector<std::uint8_t>{0, 2});
    CHECK(all.arguments.policy.vendor == true);
    CHECK(all.arguments.policy.maintenance == false);
}

TEST_CASE("an empty word is a mistake, and never means without") {
    CHECK_FALSE(accepted({"setup", "--approver", ""}));
    CHECK_FALSE(accepted({"setup", "--recovery-out", ""}));
    CHECK_FALSE(accepted({"group", "create", "x", "--approver", ""}));
    CHECK_FALSE(accepted({"create", "--name", "x", "--group", ""}));
    CHECK_FALSE(accepted({"group", "close", ""}));
    CHECK_FALSE(accepted({"recover", "--yes", "--recovery-key", ""}));
    CHECK_FALSE(accepted({"approver", "--yes", "--key", ""}));
    CHECK_FALSE(accepted({"rotate", "--group", ""}));
}

TEST_CASE("an approval is signed here or elsewhere") {
    CHECK(accepted({"approve", "this-boot", "--key", "k"}));
    CHECK(accepted({"approve", "this-boot", "--group", "g", "--after-revoke", "--out", "o"}));
    CHECK_FALSE(accepted({"approve", "this-boot"}));
    CHECK_FALSE(accepted({"approve", "this-boot", "--key", "k", "--out", "o"}));
    CHECK_FALSE(accepted({"approve", "this-boot", "--key", "k", "--pcr", "4=x"}));
}

TEST_CASE("approve next says what will be different") {
    const auto next = parse({"approve", "next", "--pcr", "4=aa", "--pcr", "9=bb", "--out", "o"});
    CHECK(next.arguments.approve.pcrs == std::vector<std::string>{"4=aa", "9=bb"});
    CHECK(next.objection.empty());
    const auto replaced =
        parse({"approve", "next", "--key", "k", "--event-log", "l", "--replace", "a=b", "c=d"});
    CHECK(replaced.arguments.approve.replacements == std::vector<std::string>{"a=b", "c=d"});
    CHECK(replaced.arguments.approve.event_log == "l");
    CHECK_FALSE(accepted({"approve", "next", "--key", "k"}));
    CHECK_FALSE(accepted({"approve", "next", "--pcr", "4=aa"}));
    CHECK_FALSE(accepted({"approve", "next", "--key", "k", "--pcr", "4=a", "--replace", "a=b"}));
    CHECK_FALSE(accepted({"approve", "next", "--key", "k", "--pcr", "4=a", "--event-log", "l"}));
    CHECK(accepted({"approve", "import", "f", "--signature", "s", "--group", "g"}));
    CHECK_FALSE(accepted({"approve", "import"}));
}

TEST_CASE("what cannot be undone wants a yes, and says why") {
    const std::vector<std::vector<std::string>> grave = {
        {"delete", "x"},      {"group", "delete", "x"},   {"recover"},
        {"revoke"},           {"approver", "--key", "k"}, {"approver", "--none"},
        {"revoke", "--force"}};
    for (auto words : grave) {
        CHECK(parse(words).objection.find("dd --yes") != std::string::npos);
        words.emplace_back("--yes");
        CHECK(accepted(words));
    }
    CHECK_FALSE(accepted({"approver", "--yes"}));
    CHECK_FALSE(accepted({"approver", "--yes", "--none", "--key", "k"}));
    CHECK_FALSE(accepted({"approver", "--yes", "--none", "--pcrs", "0"}));
}

TEST_CASE("rotate is about one thing") {
    CHECK(accepted({"rotate", "web1"}));
    CHECK(accepted({"rotate", "--group", "g"}));
    CHECK(accepted({"rotate", "--root"}));
    CHECK_FALSE(accepted({"rotate"}));
    CHECK_FALSE(accepted({"rotate", "web1", "--root"}));
    CHECK_FALSE(accepted({"rotate", "--group", "g", "--root"}));
}

TEST_CASE("log begins after a number") {
    CHECK(parse({"log", "--after", "18446744073709551615"}).arguments.after ==
          18446744073709551615U);
    CHECK_FALSE(accepted({"log", "--after", "x"}));
    CHECK_FALSE(accepted({"log", "--after", "-1"}));
}

TEST_CASE("keys are opened and checked by file") {
    CHECK(parse({"unlock", "--recovery-key", "f"}).arguments.recovery_key == "f");
    CHECK(parse({"check-recovery-key", "f"}).arguments.recovery_key == "f");
    CHECK_FALSE(accepted({"unlock"}));
    CHECK_FALSE(accepted({"check-recovery-key"}));
}

TEST_CASE("a TPM leaves with a ticket, and only if that is meant") {
    const std::vector<std::string> away = {"export", "web1", "--to", "t", "--out", "p"};
    CHECK(parse(away).understood);
    CHECK(parse(away).objection.find("cannot be used here") != std::string::npos);
    CHECK(accepted({"export", "web1", "--to", "t", "--out", "p", "--yes"}));
    CHECK(accepted({"export", "web1", "--confirm", "r"}));
    CHECK(accepted({"export", "web1", "--abort", "--yes"}));
    CHECK(parse({"export", "web1", "--abort"}).objection.find("two TPMs") != std::string::npos);
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"export", "web1", "--yes"},
             {"export", "web1", "--to", "t", "--yes"},
             {"export", "web1", "--out", "p", "--yes"},
             {"export", "web1", "--to", "", "--out", "p", "--yes"},
             {"export", "web1", "--confirm", "r", "--abort", "--yes"},
             {"export", "web1", "--confirm", ""},
             {"import", "p"},
             {"import", "p", "--receipt-out", "r", "--name", ""},
             {"import", "p", "--receipt-out", "r", "--again", "--name", "x"},
             {"ticket"},
             {"ticket", "--out", "t", "--group", ""},
             {"backup"}}) {
        INFO(words.front() << " " << words.back());
        CHECK_FALSE(accepted(words));
    }
    CHECK(accepted({"import", "p", "--receipt-out", "r", "--again"}));
    CHECK(accepted({"import", "p", "--receipt-out", "r", "--name", "x"}));
    CHECK(accepted({"ticket", "--out", "t"}));
    CHECK(accepted({"backup", "f"}));
}

TEST_CASE("a snapshot is taken at once; what destroys wants to be meant") {
    const auto parsed = parse({"snapshot", "web1", "clean"});
    CHECK(parsed.command == "snapshot");
    CHECK(parsed.objection.empty());
    CHECK(parsed.arguments.snapshot.selector == "web1");
    CHECK(parsed.arguments.snapshot.snapshot == "clean");
    CHECK(accepted({"snapshots", "web1"}));
    CHECK(accepted({"revert", "web1", "clean", "--yes"}));
    CHECK(accepted({"delete-snapshot", "web1", "clean", "--yes"}));
    CHECK(parse({"revert", "web1", "clean"}).objection.find("counters go back") !=
          std::string::npos);
    CHECK(parse({"delete-snapshot", "web1", "clean"}).objection.find("for good") !=
          std::string::npos);
    CHECK(accepted({"clone", "web1", "--name", "web2"}));
    CHECK(accepted({"clone", "web1", "--name", "web2", "--snapshot", "clean", "--uuid", "u"}));
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"snapshot", "web1"},
             {"snapshot", "web1", ""},
             {"snapshot"},
             {"revert", "web1", "--yes"},
             {"delete-snapshot", "web1", "--yes"},
             {"clone", "web1"},
             {"clone", "web1", "--name", "web2", "--snapshot", ""},
             {"export", "web1", "--confirm", "r", "--without-snapshots"}}) {
        INFO(words.front() << " " << words.back());
        CHECK_FALSE(accepted(words));
    }
    CHECK(parse({"export", "web1", "--to", "t", "--out", "p", "--yes", "--without-snapshots"})
              .arguments.transfer.without_snapshots);
}

TEST_CASE("a list may be watched") {
    CHECK_FALSE(parse({"list"}).arguments.watch.watch);
    CHECK(parse({"list", "--watch"}).arguments.watch.seconds == 2);
    CHECK(parse({"list", "--watch", "--interval", "9"}).arguments.watch.seconds == 9);
    CHECK_FALSE(accepted({"list", "--interval", "9"}));
    CHECK_FALSE(accepted({"list", "--watch", "--interval", "0"}));
    CHECK_FALSE(accepted({"list", "--watch", "--interval", "x"}));
}
