#include "settings.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::manager;

TEST_CASE("the settings file may say what it says") {
    const auto settings = parse_settings(R"(
tcti = "swtpm:path=/run/x"
state_dir = "/srv/vtpm"
auto_create = true
auto_create_tpm = "2.0"
)")
                              .value();
    CHECK(settings.tcti == "swtpm:path=/run/x");
    CHECK(settings.state_dir == "/srv/vtpm");
    CHECK(settings.auto_create);
    CHECK(settings.auto_create_tpm == tpm::Version::v2_0);
}

TEST_CASE("nothing said means the defaults, a missing file too") {
    for (const auto& settings :
         {parse_settings("").value(), read_settings("/nonexistent").value()}) {
        CHECK(settings.tcti == "device:/dev/tpm0");
        CHECK_FALSE(settings.auto_create);
    }
}

TEST_CASE("mistakes are errors, never defaults") {
    for (const auto* text :
         {"auto_creat = true", "auto_create = \"yes\"", "auto_create = 1", "tcti = 5",
          "tcti = \"\"", "auto_create_tpm = \"1.3\"", "auto_create_tpm = 2.0", "tcti = ", "[tcti]",
          "[$", "[[[a]]]", "\xff\xfe", "tcti = \"a\"\ntcti = \"b\""}) {
        INFO(text);
        CHECK_FALSE(parse_settings(text));
    }
    const auto letter = parse_settings("tcti = \"a\" # \xc3\xa9\n\xd0\xbc = 1");
    REQUIRE_FALSE(letter);
    CHECK(letter.error().context.find("ASCII") != std::string::npos);
    CHECK(parse_settings("tcti = \"a#\\\"\" # \xc3\xa9"));
    CHECK_FALSE(parse_settings("tcti = \"\\\xc3\xa9\""));
    const auto unknown = parse_settings("auto_creat = true");
    CHECK(unknown.error().context.find("auto_creat") != std::string::npos);
    CHECK_FALSE(read_settings("/proc"));
    CHECK_FALSE(read_settings("/dev/zero"));
}
