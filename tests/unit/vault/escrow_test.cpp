// Escrow by itself: round trip, wrong keys, and every byte changed.
#include "vtpm/vault/escrow.h"

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

EscrowedKeys some_keys() {
    EscrowedKeys keys;
    keys.manager = Uuid::random();
    keys.root = SecretBytes(32);
    for (std::size_t i = 0; i < 32; ++i)
        keys.root.span()[i] = static_cast<std::uint8_t>(i);
    for (std::uint8_t group = 1; group <= 3; ++group) {
        SecretBytes key(32);
        for (auto& byte : key.span())
            byte = group;
        keys.groups.emplace_back(Uuid::random(), std::move(key));
    }
    return keys;
}

}  // namespace

TEST_CASE("an escrow gives its keys back to its recovery key only") {
    const auto pem = make_recovery_key();
    REQUIRE(fine(pem));
    CHECK(std::string(pem->view().begin(), pem->view().end()).find("-----BEGIN PRIVATE KEY-----") ==
          0);
    const auto point = recovery_public(*pem);
    REQUIRE(fine(point));
    const EscrowedKeys keys = some_keys();
    const auto blob = make_escrow(*point, keys);
    REQUIRE(fine(blob));
    const auto opened = open_escrow(*pem, *blob);
    REQUIRE(fine(opened));
    CHECK(opened->manager == keys.manager);
    CHECK(equal_constant_time(opened->root.view(), keys.root.view()));
    REQUIRE(opened->groups.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(opened->groups[i].first == keys.groups[i].first);
        CHECK(equal_constant_time(opened->groups[i].second.view(), keys.groups[i].second.view()));
    }

    // Made twice, it is not the same: the ephemeral key is new.
    CHECK(*make_escrow(*point, keys) != *blob);

    const auto other = make_recovery_key();
    CHECK(error_of(open_escrow(*other, *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(secret_of("no key"), *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(SecretBytes(), *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(*pem, {})) == Errc::corrupt);

    for (std::size_t at = 0; at < blob->size(); ++at) {
        Bytes bad = *blob;
        bad[at] ^= 1U;
        INFO("byte " << at);
        CHECK_FALSE(open_escrow(*pem, bad));
        bad.resize(at);
        CHECK_FALSE(open_escrow(*pem, bad));
    }
    Bytes longer = *blob;
    longer.push_back(0);
    CHECK(error_of(open_escrow(*pem, longer)) == Errc::corrupt);
}

TEST_CASE("an escrow for what is no point of the curve is refused") {
    Bytes point(65, 1);
    point[0] = 4;
    CHECK(error_of(make_escrow(point, some_keys())) == Errc::corrupt);
    CHECK(error_of(make_escrow({}, some_keys())) == Errc::corrupt);
}
