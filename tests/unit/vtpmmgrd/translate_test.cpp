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

TEST_CASE("a package's policy is taken for what it denies, and not for what it allows") {
    wire::proto::CommandPolicy said;
    said.add_denied(0x5d);
    said.set_localities(3);
    const auto of = [](const wire::proto::CommandPolicy& policy) {
        vault::PackageFacts facts;
        const std::string bytes = policy.SerializeAsString();
        facts.policy.assign(bytes.begin(), bytes.end());
        return facts;
    };
    const Bytes plain = of(said).policy;
    said.set_vendor(true);
    said.set_maintenance(true);
    CHECK(manager::policy_of_package(of(said)) == plain);
    CHECK(manager::policy_of_package({}) == Bytes());

    vault::PackageFacts unknown = of(said);
    unknown.policy.insert(unknown.policy.end(), {0x78, 0x01});  // field 15
    const auto not_known = manager::policy_of_package(unknown);
    REQUIRE_FALSE(not_known);
    CHECK(not_known.error().code == Errc::unsupported);

    vault::PackageFacts cut = of(said);
    cut.policy.push_back(0x0a);
    const auto refused = manager::policy_of_package(cut);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::malformed);
    said.set_localities(0x10);
    CHECK(manager::policy_of_package(of(said)).error().code == Errc::invalid_argument);
}

TEST_CASE("PCR banks are chosen for a TPM 2.0 that is made here, and are banks") {
    wire::proto::Create request;
    request.set_tpm(1);
    CHECK(manager::policy_of_new(request, false).value().empty());
    request.add_bank(0x0b);
    CHECK_FALSE(manager::policy_of_new(request, false));
    request.set_tpm(2);
    CHECK_FALSE(manager::policy_of_new(request, true));
    vault::Instance instance;
    instance.policy = manager::policy_of_new(request, false).value();
    CHECK(manager::policy_of(instance).value().bank(0) == 0x0b);
    request.add_bank(0x12);
    CHECK_FALSE(manager::policy_of_new(request, false));
}
