#include "vtpm/tpm/message.h"

#include <array>
#include <catch2/catch.hpp>

#include "fakes/tpm_commands.h"

using namespace vtpm;
using tpm::Refusal;
using tpm::Version;

TEST_CASE("a header needs ten bytes") {
    const Bytes command = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0};
    const auto header = tpm::parse_header(command).value();
    CHECK(header.tag == 0x8001);
    CHECK(header.size == 12);
    CHECK(header.code == 0x144);
    for (std::size_t size = 0; size < tpm::header_size; ++size) {
        CHECK_FALSE(tpm::parse_header(ByteView(command).first(size)));
    }
}

TEST_CASE("refusals are the family's own error responses") {
    std::array<std::uint8_t, 16> response{};
    REQUIRE(tpm::write_refusal(Version::v1_2, Refusal::bad_size, response) == 10);
    CHECK(to_hex(ByteView(response).first(10)) == "00c40000000a00000019");
    REQUIRE(tpm::write_refusal(Version::v2_0, Refusal::bad_size, response) == 10);
    CHECK(to_hex(ByteView(response).first(10)) == "80010000000a00000142");
    REQUIRE(tpm::write_refusal(Version::v2_0, Refusal::not_committed, response) == 10);
    CHECK(to_hex(ByteView(response).first(10)) == "80010000000a00000923");
    REQUIRE(tpm::write_refusal(Version::v1_2, Refusal::failed, response) == 10);
    CHECK(to_hex(ByteView(response).first(10)) == "00c40000000a0000001c");
}

TEST_CASE("firmware's commands carry their own size") {
    const Bytes nonce(20, 7);
    for (const auto& command :
         {tpm::startup_clear(Version::v1_2), tpm::startup_clear(Version::v2_0),
          tpm::shutdown_clear(), tpm::get_test_result(), tpm::create_endorsement_key_pair(nonce)}) {
        CHECK(tpm::parse_header(command).value().size == command.size());
    }
    CHECK(to_hex(tpm::startup_clear(Version::v1_2)) == "00c10000000c000000990001");
    CHECK(to_hex(tpm::startup_clear(Version::v2_0)) == "80010000000c000001440000");
}

TEST_CASE("what a TPM answers without its lasting state") {
    using namespace tpm_commands;
    const auto shows_none = [](Version version, const Bytes& request) {
        return tpm::shows_no_lasting_state(version, request);
    };
    CHECK(shows_none(Version::v1_2, v12::get_random(8)));
    CHECK(shows_none(Version::v2_0, v20::get_random(8)));
    CHECK_FALSE(shows_none(Version::v1_2, v12::nv_read(8)));
    CHECK_FALSE(shows_none(Version::v2_0, v12::get_random(8)));
    CHECK_FALSE(shows_none(Version::v2_0, {}));

    const auto capability = [](std::uint16_t tag, std::uint32_t which) {
        return command(tag, 0x17A, ByteWriter().u32(which).u32(0).u32(1).take());
    };
    constexpr std::uint16_t no_sessions = 0x8001;
    for (const std::uint32_t which : {0U, 2U, 5U, 8U})
        CHECK(shows_none(Version::v2_0, capability(no_sessions, which)));
    // Handles, the physical presence list, the audit list, properties such as the lockout counter.
    for (const std::uint32_t which : {1U, 3U, 4U, 6U, 7U, 9U, 0x100U, 0xffffffffU})
        CHECK_FALSE(shows_none(Version::v2_0, capability(no_sessions, which)));
    CHECK_FALSE(shows_none(Version::v2_0, capability(0x8002, 5)));
    CHECK_FALSE(shows_none(Version::v2_0, command(no_sessions, 0x17A, {0, 0, 0})));
}

TEST_CASE("versions by text and number, and nothing else") {
    CHECK(tpm::parse_version("1.2").value() == Version::v1_2);
    CHECK(tpm::parse_version("2.0").value() == Version::v2_0);
    for (const auto* text : {"", "2", "1.20", "2.0 "})
        CHECK_FALSE(tpm::parse_version(text));
    CHECK_FALSE(tpm::version_from_number(0));
    CHECK_FALSE(tpm::version_from_number(3));
}
