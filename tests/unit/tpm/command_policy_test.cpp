#include "vtpm/tpm/command_policy.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using tpm::CommandPolicy;
using tpm::Refusal;
using tpm::Version;

namespace {

Bytes command(std::uint32_t code, ByteView parameters = {}) {
    ByteWriter writer;
    writer.u16(0x00C1)
        .u32(static_cast<std::uint32_t>(tpm::header_size + parameters.size()))
        .u32(code)
        .bytes(parameters);
    return writer.take();
}

// TPM_ExecuteTransport of a command (TPM Main Part 3, 24.2).
Bytes transport_of(const Bytes& inner) {
    return command(0xE7, ByteWriter().sized(inner).u32(0x1234).take());
}

}  // namespace

TEST_CASE("by default a guest's software may send what a guest's software has use for") {
    const CommandPolicy policy;
    for (std::uint8_t locality = 0; locality < 4; ++locality) {
        CHECK_FALSE(policy.objection(Version::v1_2, command(0x14), locality));
        CHECK_FALSE(policy.objection(Version::v2_0, command(0x182), locality));
    }
    for (const int locality : {4, 5, 7, 8, 31, 32, 63, 64, 255}) {
        CHECK(policy.objection(Version::v2_0, command(0x182),
                               static_cast<std::uint8_t>(locality)) == Refusal::bad_locality);
    }
    // The connection command by which tpm_setpresence works: bit 30, not the vendor bit.
    CHECK_FALSE(policy.objection(Version::v1_2, command(0x4000000A), 0));
}

TEST_CASE("vendor and maintenance commands are off until they are asked for") {
    const Bytes vendor = command(0x20000000);
    for (const auto version : {Version::v1_2, Version::v2_0}) {
        CHECK(CommandPolicy().objection(version, vendor, 0) == Refusal::denied_command);
        CHECK_FALSE(CommandPolicy{.vendor = true}.objection(version, vendor, 0));
    }
    for (const std::uint32_t code : {0x2CU, 0x2DU, 0x2EU, 0x2FU, 0x30U, 0x97U, 0xAAU}) {
        CHECK(CommandPolicy().objection(Version::v1_2, command(code), 0) ==
              Refusal::denied_command);
        CHECK_FALSE(CommandPolicy{.maintenance = true}.objection(Version::v1_2, command(code), 0));
    }
    for (const std::uint32_t code : {0x12FU, 0x141U, 0x179U}) {
        CHECK(CommandPolicy().objection(Version::v2_0, command(code), 0) ==
              Refusal::denied_command);
        CHECK_FALSE(CommandPolicy{.maintenance = true}.objection(Version::v2_0, command(code), 0));
    }
}

TEST_CASE("what the policy denies is denied, and nothing else") {
    const CommandPolicy policy{.denied = {0x126, 0x121}, .localities = 0x01};
    CHECK(policy.objection(Version::v2_0, command(0x126), 0) == Refusal::denied_command);
    CHECK(policy.objection(Version::v2_0, command(0x121), 0) == Refusal::denied_command);
    CHECK_FALSE(policy.objection(Version::v2_0, command(0x122), 0));
    CHECK(policy.objection(Version::v2_0, command(0x122), 1) == Refusal::bad_locality);
    CHECK(policy.objection(Version::v2_0, Bytes(9), 0) == Refusal::bad_size);
}

TEST_CASE("a transport session hides no denied command") {
    const CommandPolicy policy{.denied = {0x5B}};
    CHECK(policy.objection(Version::v1_2, transport_of(command(0x5B)), 0) ==
          Refusal::denied_command);
    CHECK(policy.objection(Version::v1_2, transport_of(command(0x2C)), 0) ==
          Refusal::denied_command);
    CHECK_FALSE(policy.objection(Version::v1_2, transport_of(command(0x46)), 0));
    // Of a TPM 2.0, 0xE7 is no transport.
    CHECK_FALSE(policy.objection(Version::v2_0, transport_of(command(0x5B)), 0));
    // Cut anywhere, it carries nothing that could be denied, and is the TPM's to refuse.
    const Bytes whole = transport_of(command(0x46));
    for (std::size_t size = tpm::header_size; size < whole.size(); ++size)
        CHECK_FALSE(policy.objection(Version::v1_2, ByteView(whole).first(size), 0));
}
