#include <catch2/catch.hpp>

#include "fake_manager.h"
#include "files.h"
#include "log_builder.h"
#include "policy_commands.h"

using namespace vtpm;
using namespace vtpm::control;
using tests::digest_of;
using tests::FakeManager;
using tests::Scratch;
using wire::proto::Reply;
using wire::proto::Request;

namespace {

const Uuid manager_id = Uuid::parse("0123abcd-4567-89ef-0123-456789abcdef").value();
const Uuid group_id = Uuid::parse("11111111-2222-4333-8444-555555555555").value();

std::string raw(const Uuid& uuid) {
    return {reinterpret_cast<const char*>(uuid.bytes().data()), Uuid::size};
}

// This host: a counter at 7, PCRs of usual_log(), words that depend on all that is to be signed.
class Host {
  public:
    Reply operator()(const Request& request) {
        Reply reply;
        if (request.has_status()) {
            reply.mutable_status()->set_manager(raw(manager));
            reply.mutable_status()->set_phase("open");
        } else if (request.has_statement()) {
            return state(request.statement());
        } else if (request.has_group_list()) {
            describe(*reply.mutable_groups()->add_group());
        } else if (request.has_approve() && refuses) {
            return tests::refusal(Errc::not_approved, "it does not verify");
        } else {
            reply.mutable_done();
        }
        return reply;
    }

    Uuid manager = manager_id;
    Uuid group = group_id;
    std::uint64_t counter = 7;
    PcrValues pcrs = EventLog::parse(tests::usual_log().written()).value().replay({0, 4, 7});
    bool refuses = false;

  private:
    void describe(wire::proto::Group& message) const {
        message.set_uuid(raw(group));
        message.set_name("tenant-1");
        message.set_open(true);
    }
    Reply state(const wire::proto::BootStatementQuery& query) const {
        if (!query.group().empty() && query.group() != "tenant-1" &&
            query.group() != group.to_string())
            return tests::refusal(Errc::not_found, "no such group");
        Reply reply;
        auto& statement = *reply.mutable_statement();
        statement.set_manager(raw(manager));
        describe(*statement.mutable_group());
        PcrValues values = pcrs;
        for (const auto& other : query.other())
            std::copy(other.value().begin(), other.value().end(),
                      values[static_cast<std::uint8_t>(other.number())].begin());
        statement.set_limit(counter + (query.outlives_revocation() ? 1 : 0));
        std::string all = std::to_string(statement.limit());
        for (const auto& [number, value] : values) {
            auto& pcr = *statement.add_pcr();
            pcr.set_number(number);
            pcr.set_value(value.data(), value.size());
            all += std::to_string(number) + to_hex(value);
        }
        const auto digest = digest_of(all);
        statement.set_words(std::string(32, 'r') + std::string(digest.begin(), digest.end()));
        return reply;
    }
};

// A key of the approver's, and a statement that --out has written.
struct Approver {
    Approver() {
        REQUIRE(
            scratch.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "
                        "key && openssl pkey -in key -pubout -out public"));
        options.group = "tenant-1";
    }
    void write_statement(bool after_revoke = false) {
        FakeManager manager{Host()};
        options.out = scratch.file("boot");
        options.after_revoke = after_revoke;
        REQUIRE(approve_this_boot(manager.connection(), options, {true}).has_value());
        REQUIRE(scratch.run("openssl dgst -sha256 -sign key -out boot.sig boot.words"));
    }
    ImportOptions import_options() const {
        return {scratch.file("boot"), scratch.file("boot.sig"), ""};
    }

    Scratch scratch;
    ApproveOptions options;
};

Error refused(const Approver& approver, Host host) {
    FakeManager manager{std::move(host)};
    const auto done = approve_import(manager.connection(), approver.import_options(), {true});
    REQUIRE_FALSE(done.has_value());
    for (const auto& request : manager.asked())
        CHECK_FALSE(request.has_approve());
    return done.error();
}

}  // namespace

TEST_CASE("approve this-boot --key signs what the manager says, and sends it") {
    Approver approver;
    approver.options.key = approver.scratch.file("key");
    FakeManager manager{Host()};
    REQUIRE(approve_this_boot(manager.connection(), approver.options, {true}).has_value());
    const auto& asked = manager.asked();
    REQUIRE(asked.size() >= 2);
    CHECK_FALSE(asked[0].statement().outlives_revocation());
    CHECK_FALSE(asked[0].caller().empty());
    const auto& sent = asked[1].approve();
    CHECK(sent.group() == group_id.to_string());
    CHECK(sent.limit() == 7);
    CHECK(sent.pcr_size() == 3);
    Request query;
    query.mutable_statement()->set_group("tenant-1");
    approver.scratch.write("words", Host()(query).statement().words());
    approver.scratch.write("sig", sent.signature());
    CHECK(approver.scratch.run("openssl dgst -sha256 -verify public -signature sig words"));
}

TEST_CASE("what is signed elsewhere comes back with the statement") {
    Approver approver;
    const bool after_revoke = GENERATE(false, true);
    approver.write_statement(after_revoke);
    CHECK(approver.scratch.read("boot.words").size() == 64);
    FakeManager manager{Host()};
    REQUIRE(approve_import(manager.connection(), approver.import_options(), {true}).has_value());
    const Request* sent = nullptr;
    for (const auto& request : manager.asked())
        sent = request.has_approve() ? &request : sent;
    REQUIRE(sent != nullptr);
    CHECK(sent->approve().signature() == approver.scratch.read("boot.sig"));
    CHECK(sent->approve().limit() == (after_revoke ? 8 : 7));
    CHECK(sent->approve().pcr_size() == 3);
}

TEST_CASE("no file is written over, and none is left half") {
    Approver approver;
    approver.options.out = approver.scratch.write("boot", "precious");
    FakeManager manager{Host()};
    const auto exists = approve_this_boot(manager.connection(), approver.options, {true});
    REQUIRE_FALSE(exists.has_value());
    CHECK(exists.error().code == Errc::already_exists);
    CHECK(approver.scratch.read("boot") == "precious");
    CHECK_FALSE(approver.scratch.has("boot.words"));
    approver.scratch.write("second.words", "precious");
    approver.options.out = approver.scratch.file("second");
    CHECK_FALSE(approve_this_boot(manager.connection(), approver.options, {true}).has_value());
    CHECK(approver.scratch.read("second.words") == "precious");
    CHECK_FALSE(approver.scratch.has("second"));
}

TEST_CASE("a statement for another host or group is refused before anybody asks the chip") {
    Approver approver;
    approver.write_statement();
    Host other;
    other.manager = group_id;
    CHECK(refused(approver, other).context.find("another host") != std::string::npos);
    Host without_group;
    without_group.group = manager_id;
    const Error error = refused(approver, without_group);
    CHECK(error.code == Errc::not_found);
    CHECK(error.context.find("tenant-1") != std::string::npos);

    auto options = approver.import_options();
    options.group = "tenant-1";  // which is another one now
    FakeManager manager{without_group};
    const auto done = approve_import(manager.connection(), options, {true});
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().context.find("is for group") != std::string::npos);
}

TEST_CASE("a statement that was altered or revoked is refused, and so is one without a signature") {
    Approver approver;
    approver.write_statement();
    Host later;
    later.counter = 8;
    CHECK(refused(approver, later).context.find("revoked") != std::string::npos);

    auto json = nlohmann::json::parse(approver.scratch.read("boot"));
    json["pcrs"]["4"] = std::string(64, '0');
    approver.scratch.write("boot", json.dump());
    CHECK(refused(approver, {}).context.find("altered") != std::string::npos);
    json["limit"] = 8;
    approver.scratch.write("boot", json.dump());
    CHECK(refused(approver, {}).context.find("altered") != std::string::npos);

    approver.scratch.write("boot.sig", "");
    CHECK(refused(approver, {}).context.find("no signature yet") != std::string::npos);
    approver.scratch.write("boot.sig", std::string(1025, 'x'));
    CHECK(refused(approver, {}).code == Errc::too_large);
    approver.scratch.write("boot", "{");
    CHECK(refused(approver, {}).code == Errc::malformed);
    REQUIRE(approver.scratch.run("rm boot"));
    CHECK(refused(approver, {}).code == Errc::io);  // and not "no such TPM"
}

TEST_CASE("the wrong approver's signature is said to be that, and not that this boot is locked") {
    Approver approver;
    approver.write_statement();
    Host host;
    host.refuses = true;
    FakeManager manager{host};
    const auto done = approve_import(manager.connection(), approver.import_options(), {true});
    REQUIRE_FALSE(done.has_value());
    CHECK(exit_code(done.error()) == 1);
    CHECK(done.error().context.find("not a signature of the approver") != std::string::npos);
}

TEST_CASE("approve next sends what the log predicts") {
    Approver approver;
    approver.options.key = approver.scratch.file("key");
    approver.options.event_log = approver.scratch.write(
        "log", {reinterpret_cast<const char*>(tests::usual_log().written().data()),
                tests::usual_log().written().size()});
    approver.options.replacements = {to_hex(digest_of("kernel")) + "=" +
                                     to_hex(digest_of("new kernel"))};
    FakeManager manager{Host()};
    REQUIRE(approve_next(manager.connection(), approver.options, {true}).has_value());
    const auto next =
        EventLog::parse(
            tests::LogBuilder().begin().measure(4, "shim").measure(4, "new kernel").written())
            .value()
            .replay({4})
            .at(4);
    const Request* sent = nullptr;
    for (const auto& request : manager.asked())
        sent = request.has_approve() ? &request : sent;
    REQUIRE(sent != nullptr);
    REQUIRE(sent->approve().pcr_size() == 3);
    CHECK(sent->approve().pcr(1).number() == 4);
    CHECK(sent->approve().pcr(1).value() == std::string(next.begin(), next.end()));
}

TEST_CASE("approve next refuses a log of another boot, and PCRs that do not count") {
    Approver approver;
    approver.options.out = approver.scratch.file("boot");
    approver.options.event_log = approver.scratch.write("log", "");
    approver.options.replacements = {to_hex(digest_of("kernel")) + "=" + to_hex(digest_of("x"))};
    Host host;
    host.pcrs[7] = digest_of("another policy");
    const Bytes log = tests::usual_log().written();
    FakeManager manager{host};
    CHECK_FALSE(approve_next(manager.connection(), approver.options, {true}).has_value());
    approver.scratch.write("log", {reinterpret_cast<const char*>(log.data()), log.size()});
    const auto other = approve_next(manager.connection(), approver.options, {true});
    REQUIRE_FALSE(other.has_value());
    CHECK(other.error().context.find("PCR 7") != std::string::npos);
    approver.options.replacements.clear();
    approver.options.pcrs = {"9=" + std::string(64, 'a')};
    const auto outside = approve_next(manager.connection(), approver.options, {true});
    REQUIRE_FALSE(outside.has_value());
    CHECK(outside.error().context.find("PCR 9 is not among") != std::string::npos);
    CHECK_FALSE(approver.scratch.has("boot"));
}
