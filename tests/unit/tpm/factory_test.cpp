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
          allocate_pcrs({PcrBank::sha256}), ask_pcr_banks()})
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

TEST_CASE("the answer to an allocation says whether it will be") {
    const std::string head =
        "8002"
        "00000018"
        "00000000"
        "0000000d";
    CHECK(has_allocated(from_hex(head + "01"
                                        "00000018"
                                        "00000060"
                                        "00010000")
                            .value()));
    CHECK_FALSE(has_allocated(from_hex(head + "00"
                                              "00000018"
                                              "00000060"
                                              "00010000")
                                  .value()));
    CHECK_FALSE(has_allocated(from_hex("8001"
                                       "0000000a"
                                       "00000185")
                                  .value()));
    CHECK_FALSE(has_allocated(from_hex(head).value()));
    CHECK_FALSE(has_allocated({}));
}

TEST_CASE("the banks that a TPM has are those with all their PCRs") {
    const auto answer = [](const std::string& banks, const std::string& code = "00000000") {
        return from_hex(
                   "8001"
                   "00000013" +
                   code +
                   "00"
                   "00000005" +
                   banks)
            .value();
    };
    const PcrBanks both = {PcrBank::sha256, PcrBank::sha384};
    const auto all = answer(
        "00000004"
        "000403000000"
        "000c03ffffff"
        "000b03ffffff"
        "000d03000000");
    CHECK(has_pcr_banks(all, both).value());
    CHECK_FALSE(has_pcr_banks(all, {PcrBank::sha256}).value());
    CHECK_FALSE(has_pcr_banks(all, {PcrBank::sha1, PcrBank::sha256, PcrBank::sha384}).value());
    CHECK_FALSE(has_pcr_banks(answer("00000002"
                                     "000b03ffffff"
                                     "000c03ffff00"),
                              both)
                    .value());
    CHECK_FALSE(has_pcr_banks(answer("00000000"), both).value());
    // Short of what it says, or no answer at all.
    CHECK_FALSE(has_pcr_banks(answer("00000003"
                                     "000b03ffffff"
                                     "000c03ffffff"),
                              both));
    CHECK_FALSE(has_pcr_banks(answer("00000001"
                                     "000b09ffffff"),
                              both));
    CHECK_FALSE(has_pcr_banks(answer("ffffffff"), both));
    CHECK_FALSE(has_pcr_banks(answer("00000000", "00000101"), both));
    CHECK_FALSE(has_pcr_banks({}, both));
}
