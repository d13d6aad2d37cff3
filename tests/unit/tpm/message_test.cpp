#include "vtpm/tpm/message.h"

#include <array>
#include <catch2/catch.hpp>

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
          tpm::shutdown_clear(), tpm::create_endorsement_key_pair(nonce)}) {
        CHECK(tpm::parse_header(command).value().size == command.size());
    }
    CHECK(to_hex(tpm::startup_clear(Version::v1_2)) == "00c10000000c000000990001");
    CHECK(to_hex(tpm::startup_clear(Version::v2_0)) == "80010000000c000001440000");
}

TEST_CASE("versions by text and number, and nothing else") {
    CHECK(tpm::parse_version("1.2").value() == Version::v1_2);
    CHECK(tpm::parse_version("2.0").value() == Version::v2_0);
    for (const auto* text : {"", "2", "1.20", "2.0 "})
        CHECK_FALSE(tpm::parse_version(text));
    CHECK_FALSE(tpm::version_from_number(0));
    CHECK_FALSE(tpm::version_from_number(3));
}
