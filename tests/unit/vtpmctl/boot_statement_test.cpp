#include "boot_statement.h"

#include <catch2/catch.hpp>

#include "files.h"
#include "scratch.h"

using namespace vtpm;
using namespace vtpm::control;
using tests::Scratch;

namespace {

BootStatement usual() {
    BootStatement statement;
    statement.manager = Uuid::parse("0123abcd-4567-89ef-0123-456789abcdef").value();
    statement.group = Uuid::parse("11111111-2222-4333-8444-555555555555").value();
    statement.group_name = "tenant-1";
    statement.pcrs[0].fill(0x11);
    statement.pcrs[14].fill(0xee);
    statement.limit = 0xfedcba9876543210;
    statement.words = Bytes(64, 0x5a);
    return statement;
}

Errc error_of(const nlohmann::json& json) {
    const auto parsed = parse_statement(as_bytes(json.dump()));
    REQUIRE_FALSE(parsed.has_value());
    return parsed.error().code;
}

Errc error_without(const char* name) {
    auto json = to_json(usual());
    json.erase(name);
    return error_of(json);
}

Errc error_with(const char* name, const nlohmann::json& value) {
    auto json = to_json(usual());
    json[name] = value;
    return error_of(json);
}

Result<Bytes> signed_with(const Scratch& scratch, const std::string& key) {
    const auto pem = read_secret(scratch.file(key));
    REQUIRE(pem.has_value());
    return sign(usual().words, *pem);
}

// As the chip's owner would check it: with OpenSSL's own program.
bool openssl_verifies(const Scratch& scratch, const std::string& key, const Bytes& signature) {
    const auto text = [](const Bytes& bytes) {
        return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    };
    scratch.write("signature", text(signature));
    scratch.write("words", text(usual().words));
    return scratch.run("openssl pkey -in " + key + " -pubout -out public.pem && " +
                       "openssl dgst -sha256 -verify public.pem -signature signature words");
}

}  // namespace

TEST_CASE("a statement comes back from its file as it was") {
    auto statement = usual();
    const auto unsigned_one = parse_statement(as_bytes(to_json(statement).dump(2)));
    REQUIRE(unsigned_one.has_value());
    CHECK(unsigned_one->signature.empty());
    statement.signature = Bytes(70, 0x30);
    const auto again = parse_statement(as_bytes(to_json(statement).dump(2)));
    REQUIRE(again.has_value());
    CHECK(again->manager == statement.manager);
    CHECK(again->group == statement.group);
    CHECK(again->group_name == "tenant-1");
    CHECK(again->pcrs == statement.pcrs);
    CHECK(again->limit == statement.limit);
    CHECK(again->words == statement.words);
    CHECK(again->signature == statement.signature);
}

TEST_CASE("a statement's file that is damaged anywhere is refused or says what it said") {
    const std::string whole = to_json(usual()).dump();
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(parse_statement(as_bytes(whole.substr(0, size))).has_value());
}

TEST_CASE("a statement's parts are there and in bounds") {
    for (const char* name : {"what", "manager", "group", "pcrs", "counter", "limit", "words"})
        CHECK(error_without(name) == Errc::malformed);
    CHECK(error_with("what", "xen-vtpm boot statement 2") == Errc::malformed);
    CHECK(error_with("what", 1) == Errc::malformed);
    CHECK(error_with("manager", "x") == Errc::malformed);
    CHECK(error_with("manager", Uuid().to_string()) == Errc::malformed);
    CHECK(error_with("group", "x") == Errc::malformed);
    CHECK(error_with("pcrs", nlohmann::json::object()) == Errc::malformed);
    CHECK(error_with("pcrs", {{"24", std::string(64, '0')}}) == Errc::malformed);
    CHECK(error_with("pcrs", {{"-1", std::string(64, '0')}}) == Errc::malformed);
    CHECK(error_with("pcrs", {{"4x", std::string(64, '0')}}) == Errc::malformed);
    CHECK(error_with("pcrs", {{"4", std::string(62, '0')}}) == Errc::malformed);
    CHECK(error_with("pcrs", {{"4", 4}}) == Errc::malformed);
    CHECK(error_with("pcrs", {{"4", std::string(64, '0')}, {"04", std::string(64, '1')}}) ==
          Errc::malformed);
    CHECK(error_with("counter", "018001") == Errc::malformed);
    CHECK(error_with("counter", 25166081) == Errc::malformed);
    CHECK(error_with("limit", -1) == Errc::malformed);
    CHECK(error_with("limit", 1.5) == Errc::malformed);
    CHECK(error_with("words", std::string(126, '0')) == Errc::malformed);
    CHECK(error_with("signature", "") == Errc::malformed);
    CHECK(error_with("signature", std::string(2050, '0')) == Errc::malformed);
    CHECK(error_with("signature", nlohmann::json::array()) == Errc::malformed);
    CHECK(error_of(nlohmann::json::array()) == Errc::malformed);
    auto steering = usual();
    steering.group_name = "\x1b[2J";
    CHECK(error_of(to_json(steering)) == Errc::malformed);
    CHECK(parse_statement(Bytes(BootStatement::max_file + 1, ' ')).error().code == Errc::too_large);
    CHECK_FALSE(parse_statement(Bytes(BootStatement::max_file, '[')).has_value());
}

TEST_CASE("PCRs and replacements are read as they are typed") {
    const std::string a(64, 'a');
    const std::string b(64, 'B');
    const auto values = parse_pcr_values({"4=" + a, "23=" + b});
    REQUIRE(values.has_value());
    CHECK(values->at(4)[31] == 0xaa);
    CHECK(values->at(23)[0] == 0xbb);
    for (const auto& bad :
         {"24=" + a, "4" + a, "=" + a, "4=" + a + "a", std::string("4="), "-4=" + a})
        CHECK_FALSE(parse_pcr_values({bad}).has_value());
    CHECK_FALSE(parse_pcr_values({"4=" + a, "4=" + b}).has_value());
    CHECK(parse_replacements({a + "=" + b}).value().size() == 1);
    for (const auto& bad : {a, a + "=", "=" + a, a + "=" + a, a + "=" + a.substr(1)})
        CHECK_FALSE(parse_replacements({bad}).has_value());
    CHECK_FALSE(parse_replacements({a + "=" + b, a + "=" + std::string(64, '0')}).has_value());
}

TEST_CASE("what is signed here verifies as what openssl dgst -sign gives") {
    const Scratch scratch;
    const auto [name, make] = GENERATE(table<std::string, std::string>(
        {{"p256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256"},
         {"sec1", "openssl ecparam -genkey -name prime256v1 -out sec1"},
         {"rsa", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa"}}));
    REQUIRE(scratch.run(make));
    auto signature = signed_with(scratch, name);
    REQUIRE(signature.has_value());
    CHECK(openssl_verifies(scratch, name, *signature));
    signature->back() ^= 1;
    CHECK_FALSE(openssl_verifies(scratch, name, *signature));
}

TEST_CASE("a key that cannot be an approver's is refused, with the reason") {
    const Scratch scratch;
    const auto refusal = [&](const std::string& make) {
        REQUIRE(scratch.run(make + " key"));
        const auto signature = signed_with(scratch, "key");
        REQUIRE_FALSE(signature.has_value());
        CHECK(signature.error().code == Errc::invalid_argument);
        return signature.error().context;
    };
    const std::string p256 = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 ";
    CHECK(refusal(p256 + "-aes256 -pass pass:secret -out").find("encrypted") != std::string::npos);
    CHECK(refusal("openssl ecparam -genkey -name prime256v1 | openssl ec -aes256 -passout "
                  "pass:secret -out")
              .find("encrypted") != std::string::npos);
    CHECK(refusal("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out")
              .find("P-256") != std::string::npos);
    CHECK(refusal("openssl genpkey -algorithm ED25519 -out").find("P-256") != std::string::npos);
    CHECK(
        refusal("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out").find("2048") !=
        std::string::npos);
    CHECK(refusal(p256 + "-out k && openssl pkey -in k -pubout -out").find("private") !=
          std::string::npos);
    CHECK(refusal(
              "printf -- '-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----\\n' | tee")
              .find("cannot be read") != std::string::npos);
}

TEST_CASE("only a public key goes to the manager") {
    const Scratch scratch;
    REQUIRE(
        scratch.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key &&"
                    " openssl pkey -in key -pubout -out public"));
    CHECK(read_public_key(scratch.file("public")).value() == scratch.read("public"));
    const auto refused = read_public_key(scratch.file("key"));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().context.find("-pubout") != std::string::npos);
    CHECK_FALSE(read_public_key(scratch.write("both", scratch.read("public") + scratch.read("key")))
                    .has_value());
    CHECK_FALSE(read_public_key(scratch.write("odd", scratch.read("public") + "\xff")).has_value());
    CHECK_FALSE(read_public_key(scratch.write("empty", "")).has_value());
    CHECK(read_public_key(scratch.write("large", std::string(16384, 'x'))).error().code ==
          Errc::too_large);
    CHECK_FALSE(read_public_key(scratch.file("nothing")).has_value());
}
