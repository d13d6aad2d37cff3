#include "command_names.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using control::command_code;
using control::command_name;
using tpm::Version;

TEST_CASE("commands by the TCG's names, or by number") {
    CHECK(command_code(Version::v2_0, "TPM2_Clear").value() == 0x126);
    CHECK(command_code(Version::v2_0, "tpm2_nv_write").value() == 0x137);
    CHECK(command_code(Version::v2_0, "ACT_SetTimeout").value() == 0x198);
    CHECK(command_code(Version::v1_2, "TPM_OwnerClear").value() == 0x5B);
    CHECK(command_code(Version::v1_2, "oiap").value() == 0x0A);
    CHECK(command_code(Version::v1_2, "0xE7").value() == 0xE7);
    CHECK(command_code(Version::v2_0, "0xffffffff").value() == 0xffffffff);
    for (const auto* text :
         {"", "TPM2_", "TPM_OIAP", "Clea", "Clear ", "0x", "0x1ffffffff", "0x12g", "294"}) {
        INFO(text);
        CHECK_FALSE(command_code(Version::v2_0, text));
    }
}

TEST_CASE("each name and its code name each other") {
    std::size_t named = 0;
    for (const auto version : {Version::v1_2, Version::v2_0}) {
        for (std::uint32_t code = 0; code < 0x200; ++code) {
            const std::string name = command_name(version, code);
            CHECK(command_code(version, name).value() == code);
            named += name.starts_with("TPM") ? 1U : 0U;
        }
    }
    CHECK(named == 240);  // 123 of 1.2, 117 of 2.0
    CHECK(command_name(Version::v2_0, 0x20000000) == "0x20000000");
}
