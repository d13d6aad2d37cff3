#include "translate.h"

#include <catch2/catch.hpp>

#include "vtpm/wire/channel.h"

using namespace vtpm;

namespace {

// As its reader gets it; none if he does not.
template <typename Message>
std::optional<Message> arrived(const Message& message) {
    wire::Frame frame;
    const std::string bytes = message.SerializeAsString();
    frame.message.assign(bytes.begin(), bytes.end());
    auto parsed = wire::parse<Message>(frame);
    return parsed ? std::optional(std::move(*parsed)) : std::nullopt;
}

const std::string damaged = "ab\xc3(\xff\x1b[2J";

}  // namespace

TEST_CASE("text of a damaged database does not keep an answer from its reader") {
    wire::proto::LogLine line;
    manager::describe(vault::Event{1, 2, damaged, damaged, damaged, false}, line);
    const auto read = arrived(line);
    REQUIRE(read);
    CHECK(read->actor() == "ab?(??[2J");
    CHECK_FALSE(read->sound());

    vault::Status status;
    status.chip = damaged;
    status.reason = Error{Errc::corrupt, NextAction::ask_operator, damaged};
    wire::proto::Status of_vault;
    manager::describe(status, of_vault);
    CHECK(arrived(of_vault));

    vault::Group group;
    group.name = damaged;
    wire::proto::Group of_group;
    manager::describe(group, of_group);
    CHECK(arrived(of_group));

    vault::Instance instance;
    instance.name = damaged;
    wire::proto::Instance of_instance;
    manager::describe(instance, of_instance);
    CHECK(arrived(of_instance));
}
