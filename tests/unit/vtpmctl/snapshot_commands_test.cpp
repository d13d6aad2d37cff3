#include "snapshot_commands.h"

#include <catch2/catch.hpp>
#include <iostream>
#include <sstream>

#include "fake_manager.h"
#include "presentation.h"
#include "story.h"
#include "watch.h"

using namespace vtpm;
using namespace vtpm::control;
using tests::FakeManager;
using wire::proto::Reply;
using wire::proto::Request;

namespace {

wire::proto::Instance instance(const std::string& name, char digit) {
    wire::proto::Instance instance;
    instance.set_uuid(std::string(16, digit));
    instance.set_name(name);
    instance.set_tpm(2);
    instance.set_state("live");
    instance.set_sequence(7);
    return instance;
}

// What `act` prints on this stream.
template <typename Act>
std::string said(std::ostream& stream, const Act& act) {
    std::ostringstream text;
    auto* const before = stream.rdbuf(text.rdbuf());
    act();
    stream.rdbuf(before);
    return text.str();
}

// Whoever waits for the manager's answer must have read all that the test has said.
Reply one(const wire::proto::Instance& instance) {
    Reply reply;
    *reply.mutable_instance() = instance;
    return reply;
}

}  // namespace

TEST_CASE("snapshot, delete-snapshot and revert name an instance and a snapshot") {
    FakeManager manager{[](const Request&) { return one(instance("web1", 'a')); }};
    const SnapshotOptions options{"web1", "clean", "", ""};
    std::string words;
    const std::string text = said(std::cout, [&] {
        REQUIRE(take_snapshot(manager.connection(), options, {}));
        REQUIRE(delete_snapshot(manager.connection(), options, {}));
        REQUIRE(control::revert(manager.connection(), options, {}));
    });
    CHECK(text.find("snapshot clean of web1 is kept, at write 7") != std::string::npos);
    CHECK(text.find("deleted snapshot clean of web1") != std::string::npos);
    CHECK(text.find("reverts so far: 0") != std::string::npos);
    const auto& asked = manager.asked();
    REQUIRE(asked.size() == 3);
    CHECK(asked[0].take_snapshot().selector() == "web1");
    CHECK(asked[0].take_snapshot().snapshot() == "clean");
    CHECK(asked[1].remove_snapshot().snapshot() == "clean");
    CHECK(asked[2].revert().snapshot() == "clean");
}

TEST_CASE("a clone is the line for the guest's file, and a warning beside it") {
    auto made = instance("web2", 'b');
    made.set_origin(std::string(16, 'a'));
    FakeManager manager{[&](const Request&) { return one(made); }};
    std::string line;
    const std::string warned = said(std::cerr, [&] {
        line = said(std::cout, [&] {
            REQUIRE(control::clone(manager.connection(), {"web1", "clean", "web2", ""}, {}));
        });
    });
    CHECK(line == xl_line(made) + "\n");
    CHECK(warned.find("the same endorsement key") != std::string::npos);
    const auto quiet = said(std::cerr, [&] {
        said(std::cout, [&] {
            REQUIRE(control::clone(manager.connection(), {"web1", "", "web2", ""}, {true}));
        });
    });
    CHECK(quiet.empty());
    CHECK_FALSE(control::clone(manager.connection(), {"web1", "", "web2", "no-uuid"}, {true}));
    const auto& asked = manager.asked();
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].clone().snapshot() == "clean");
    CHECK(asked[0].clone().name() == "web2");
}

TEST_CASE("the list of snapshots steers no terminal") {
    FakeManager manager{[](const Request&) {
        Reply reply;
        auto& snapshot = *reply.mutable_snapshots()->add_snapshot();
        snapshot.set_name("a\x1b[2J");
        snapshot.set_bytes(12);
        return reply;
    }};
    const auto text = said(std::cout, [&] {
        REQUIRE(list_snapshots(manager.connection(), {"web1", "", "", ""}, {}));
    });
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("a?[2J") != std::string::npos);
}

TEST_CASE("show has what was reverted and cloned, and the story") {
    auto web = instance("web1", 'a');
    CHECK(describe(web).find("reverts") == std::string::npos);
    CHECK(to_json(web)["reverts"] == 0);
    CHECK_FALSE(to_json(web).contains("story"));
    web.set_reverts(3);
    web.set_clones(2);
    web.set_origin(std::string(16, 'b'));
    web.set_snapshots(1);
    auto& story = *web.mutable_story();
    story.set_domain(7);
    CHECK(describe(web).find("not known: its vtpmd is of an older version") != std::string::npos);
    CHECK(to_json(web)["story"]["engines"].is_null());
    auto& power = *story.mutable_power();
    CHECK(describe(web).find("none yet") != std::string::npos);
    power.set_engines(2);
    power.set_since(1'000'000'000);
    power.set_beginning("attached");
    power.set_why("why\x1b");
    power.set_failed(true);
    const auto text = describe(web);
    CHECK(text.find("reverts       3") != std::string::npos);
    CHECK(text.find("2 made of it") != std::string::npos);
    CHECK(text.find("clone of      62626262-") != std::string::npos);
    CHECK(text.find("no record of this boot") != std::string::npos);
    CHECK(text.find("2 in this power cycle") != std::string::npos);
    CHECK(text.find("failure mode") != std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
    const auto json = to_json(web);
    CHECK(json["story"]["engines"] == 2);
    CHECK(json["story"]["no_record_of_this_boot"] == true);
    CHECK(json["story"]["powered_since"] == "2001-09-09T01:46:40Z");
    CHECK(json["clone_of"] == "62626262-6262-6262-6262-626262626262");
}

TEST_CASE("a watch appends what has changed") {
    Changes changes(false);
    const auto a = instance("a", 'a');
    auto b = instance("b", 'b');
    const auto first = changes.next({a, b});
    CHECK(std::count(first.begin(), first.end(), '\n') == 3);
    CHECK(first.starts_with("NAME"));
    CHECK(changes.next({a, b}).empty());
    b.set_in_use(true);
    b.set_domain(7);
    const auto second = changes.next({a, b});
    CHECK(std::count(second.begin(), second.end(), '\n') == 1);
    CHECK(second.find("domain 7") != std::string::npos);
    const auto third = changes.next({b});
    CHECK(third == "a  61616161-6161-6161-6161-616161616161  gone\n");
    CHECK(changes.next({b}).empty());
    CHECK(changes.next({a, b}).starts_with("a "));
}

TEST_CASE("a watch with JSON gives an object a line") {
    Changes changes(true);
    const auto a = instance("a", 'a');
    const auto first = changes.next({a, instance("b", 'b')});
    std::istringstream lines(first);
    std::vector<std::string> names;
    for (std::string line; std::getline(lines, line);)
        names.push_back(nlohmann::json::parse(line)["name"]);
    CHECK(names == std::vector<std::string>{"a", "b"});
    const auto gone = nlohmann::json::parse(changes.next({a}));
    CHECK(gone["state"] == "gone");
    CHECK(gone["name"] == "b");
}

TEST_CASE("a watch goes on until it is told to end, and without a manager") {
    int asked = 0;
    FakeManager manager{[&](const Request&) {
        Reply reply;
        *reply.mutable_page()->add_instance() = instance("n" + std::to_string(++asked), 'a');
        return reply;
    }};
    int looks = 0;
    WatchOptions options;
    options.socket = "/nowhere/manager.sock";
    options.wait = [&] { return ++looks < 3; };
    const auto text =
        said(std::cout, [&] { REQUIRE(watch(manager.connection(), options, {true})); });
    CHECK(std::count(text.begin(), text.end(), '\n') == 3);
    CHECK(manager.asked().size() == 3);
    FakeManager no{[](const Request&) { return tests::refusal(Errc::locked, "locked"); }};
    const auto refused = watch(no.connection(), options, {true});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::locked);
}
