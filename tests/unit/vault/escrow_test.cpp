// Escrow by itself: round trip, wrong keys, and every byte changed.
#include "vtpm/vault/escrow.h"

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

EscrowedKey some_key() {
    EscrowedKey key{Uuid::random(), Uuid::random(), SecretBytes(32)};
    for (std::size_t i = 0; i < 32; ++i)
        key.key.span()[i] = static_cast<std::uint8_t>(i);
    return key;
}

}  // namespace

TEST_CASE("an escrow gives its key back to its recovery key only") {
    const SecretBytes pem = recovery_pair().private_pem;
    CHECK(std::string(pem.view().begin(), pem.view().end()).find("-----BEGIN PRIVATE KEY-----") ==
          0);
    const auto point = recovery_public(pem);
    REQUIRE(fine(point));
    const EscrowedKey key = some_key();
    const auto blob = make_escrow(*point, key);
    REQUIRE(fine(blob));
    const auto opened = open_escrow(pem, *blob);
    REQUIRE(fine(opened));
    CHECK(opened->manager == key.manager);
    CHECK(opened->owner == key.owner);
    CHECK(equal_constant_time(opened->key.view(), key.key.view()));

    // Made twice, it is not the same: the ephemeral key is new.
    CHECK(*make_escrow(*point, key) != *blob);

    CHECK(error_of(open_escrow(recovery_pair().private_pem, *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(secret_of("no key"), *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(SecretBytes(), *blob)) == Errc::invalid_argument);
    CHECK(error_of(open_escrow(pem, {})) == Errc::corrupt);

    for (std::size_t at = 0; at < blob->size(); ++at) {
        Bytes bad = *blob;
        bad[at] ^= 1U;
        INFO("byte " << at);
        CHECK_FALSE(open_escrow(pem, bad));
        bad.resize(at);
        CHECK_FALSE(open_escrow(pem, bad));
    }
    Bytes longer = *blob;
    longer.push_back(0);
    CHECK(error_of(open_escrow(pem, longer)) == Errc::corrupt);
}

TEST_CASE("an escrow for what is no point of the curve is refused") {
    Bytes point(65, 1);
    point[0] = 4;
    CHECK(error_of(make_escrow(point, some_key())) == Errc::corrupt);
    CHECK(error_of(make_escrow({}, some_key())) == Errc::corrupt);
}

TEST_CASE("a public key in PEM is as good as the recovery key itself, to put keys in escrow") {
    TemporaryDirectory files;
    const std::string key = files.path() / "key.pem";
    const std::string pub = files.path() / "pub.pem";
    const auto openssl = [](const std::string& words) {
        return std::system(("openssl " + words + " 2>/dev/null").c_str()) == 0;
    };
    const auto text = [](const std::string& path) {
        const Bytes bytes = slurp(path);
        return std::string(bytes.begin(), bytes.end());
    };
    REQUIRE(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out " + key));
    REQUIRE(openssl("pkey -in " + key + " -pubout -out " + pub));
    const auto point = recovery_public(text(pub));
    REQUIRE(fine(point));
    const EscrowedKey escrowed = some_key();
    const auto blob = make_escrow(*point, escrowed);
    REQUIRE(fine(blob));
    const auto opened = open_escrow(secret_of(text(key)), *blob);
    REQUIRE(fine(opened));
    CHECK(equal_constant_time(opened->key.view(), escrowed.key.view()));

    CHECK(error_of(recovery_public(text(key))) == Errc::invalid_argument);
    CHECK(error_of(recovery_public(std::string_view("nonsense"))) == Errc::invalid_argument);
    REQUIRE(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out " + key));
    REQUIRE(openssl("pkey -in " + key + " -pubout -out " + pub));
    CHECK_FALSE(recovery_public(text(pub)));
    REQUIRE(openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out " + key));
    REQUIRE(openssl("pkey -in " + key + " -pubout -out " + pub));
    CHECK(error_of(recovery_public(text(pub))) == Errc::invalid_argument);
}
