#include "presentation.h"

#include <catch2/catch.hpp>

#include "commands.h"
#include "vtpm/base/uuid.h"

using namespace vtpm;
using namespace vtpm::control;

namespace {

wire::proto::Instance web1() {
    wire::proto::Instance instance;
    const auto uuid = Uuid::parse("0123abcd-4567-89ef-0123-456789abcdef").value();
    instance.set_uuid(uuid.bytes().data(), Uuid::size);
    instance.set_name("web1");
    instance.set_tpm(1);
    instance.set_state("live");
    return instance;
}

}  // namespace

TEST_CASE("the xl line is what a guest's file takes") {
    CHECK(xl_line(web1()) == R"(vtpm=["backend=0,uuid=0123abcd-4567-89ef-0123-456789abcdef"])");
}

TEST_CASE("JSON has what programs need") {
    const auto json = to_json(web1());
    CHECK(json["uuid"] == "0123abcd-4567-89ef-0123-456789abcdef");
    CHECK(json["name"] == "web1");
    CHECK(json["tpm"] == "1.2");
    CHECK(json["state"] == "live");
    CHECK(json["committed"].is_null());
    CHECK_FALSE(json["in_use"].get<bool>());
    CHECK_FALSE(json.contains("domain"));
    CHECK_FALSE(json["sync"].get<bool>());
    auto synced = web1();
    synced.set_sync(true);
    CHECK(to_json(synced)["sync"].get<bool>());
    CHECK(describe(synced).find("to the chip as well") != std::string::npos);
}

TEST_CASE("times are UTC, and never is a word") {
    CHECK(time_text(0) == "never");
    CHECK(time_text(1'000'000'000) == "2001-09-09T01:46:40Z");
}

TEST_CASE("a table lines up and says who holds what") {
    auto held = web1();
    held.set_in_use(true);
    held.set_domain(7);
    held.set_name("a-much-longer-name");
    const auto text = table({web1(), held});
    CHECK(text.find("domain 7") != std::string::npos);
    const auto first = text.find("0123abcd");
    const auto second = text.find("0123abcd", first + 1);
    const auto column = [&](std::size_t at) { return at - text.rfind('\n', at); };
    CHECK(column(first) == column(second));
}

TEST_CASE("exit codes tell programs what happened") {
    const auto code = [](Errc errc) { return exit_code(Error{errc, NextAction::refuse, ""}); };
    CHECK(code(Errc::unavailable) == 3);
    CHECK(code(Errc::wrong_chip) == 4);
    CHECK(code(Errc::not_set_up) == 4);
    CHECK(code(Errc::not_found) == 5);
    CHECK(code(Errc::in_use) == 6);
    CHECK(code(Errc::corrupt) == 1);
}
