#include "vtpm/tpm/factory.h"

#include <array>
#include <catch2/catch.hpp>
#include <optional>

#include "vtpm/tpm/message.h"

using namespace vtpm;
using namespace vtpm::tpm;

namespace {

std::optional<Errc> refusal_of(const std::vector<std::string>& names) {
    const auto banks = parse_pcr_banks(names);
    return banks ? std::nullopt : std::optional(banks.error().code);
}

}  // namespace

TEST_CASE("a factory's commands carry their own size") {
    for (const auto& command :
         {create_endorsement_key(EndorsementKey::rsa_2048),
          create_endorsement_key(EndorsementKey::ecc_p256), make_persistent(1, 2), flush_context(1),
          allocate_pcrs({PcrBank::sha256})})
        CHECK(parse_header(command).value().size == command.size());
}

TEST_CASE("PCR banks are named as tools name them, in any order") {
    const std::array<std::string, 2> names = {"sha384", "sha256"};
    CHECK(parse_pcr_banks(names).value() == PcrBanks{PcrBank::sha256, PcrBank::sha384});
    CHECK(refusal_of({}) == Errc::invalid_argument);
    CHECK(refusal_of({"sha256", "sha256"}) == Errc::invalid_argument);
    CHECK(refusal_of({"SHA256"}) == Errc::invalid_argument);
    CHECK(refusal_of({"sm3_256"}) == Errc::invalid_argument);
}

TEST_CASE("PCR banks as numbers: none are the default, and unknown ones an error") {
    CHECK(pcr_banks_of({}).value() == PcrBanks{PcrBank::sha256});
    const std::array<std::uint32_t, 2> both = {0x0c, 0x04};
    CHECK(pcr_banks_of(both).value() == PcrBanks{PcrBank::sha1, PcrBank::sha384});
    const std::array<std::uint32_t, 1> unknown = {0x12};
    CHECK(pcr_banks_of(unknown).error().code == Errc::malformed);
    const std::array<std::uint32_t, 2> twice = {0x0b, 0x0b};
    CHECK(pcr_banks_of(twice).error().code == Errc::malformed);
}

TEST_CASE("all banks are allocated or given up, none is left as it was") {
    const auto command = allocate_pcrs({PcrBank::sha256});
    CHECK(to_hex(ByteView(command).last(28)) ==
          "00000004"
          "000403000000"
          "000b03ffffff"
          "000c03000000"
          "000d03000000");
}
