// The record format by itself: below the table's digests, which hide most of this from the outside.
#include "../../../src/vault/record_cipher.h"

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

RecordLabel some_label() {
    RecordLabel label;
    label.manager = Uuid::random();
    label.group = Uuid::random();
    label.instance = Uuid::random();
    label.generation = 3;
    label.sequence = 9;
    return label;
}

}  // namespace

TEST_CASE("a record opens under its own key and label only") {
    const SecretBytes key = *random_secret(key_size);
    const RecordLabel label = some_label();
    const SecretBytes content = secret_of("the state of a TPM");
    const auto record = seal_record(key, label, content);
    REQUIRE(fine(record));
    CHECK(record->size() == content.size() + record_overhead);
    const auto opened = open_record(key, label, *record);
    REQUIRE(fine(opened));
    CHECK(equal_constant_time(opened->view(), content.view()));
    CHECK(*seal_record(key, label, content) != *record);

    for (std::size_t at = 0; at < record->size(); ++at) {
        Bytes bad = *record;
        bad[at] ^= 0x80U;
        INFO("byte " << at);  // 32 to 63 are the commitment, of which GCM knows nothing
        CHECK(error_of(open_record(key, label, bad)) == Errc::corrupt);
        bad.resize(at);
        CHECK(error_of(open_record(key, label, bad)) == Errc::corrupt);
    }
    CHECK(error_of(open_record(*random_secret(key_size), label, *record)) == Errc::corrupt);

    RecordLabel other = label;
    SECTION("manager") {
        other.manager = Uuid::random();
    }
    SECTION("group") {
        other.group = Uuid::random();
    }
    SECTION("instance") {
        other.instance = Uuid::random();
    }
    SECTION("kind") {
        other.kind = BlobKind::saved;
    }
    SECTION("generation") {
        ++other.generation;
    }
    SECTION("sequence") {
        --other.sequence;
    }
    SECTION("anchor") {
        other.anchor[31] = 1;
    }
    CHECK(error_of(open_record(key, other, *record)) == Errc::corrupt);
}

TEST_CASE("HKDF gives what RFC 5869 says, appendix A.1 and A.3") {
    Bytes salt;
    Bytes info;
    for (std::uint8_t i = 0; i < 13; ++i)
        salt.push_back(i);
    for (std::uint8_t i = 0xf0; i < 0xfa; ++i)
        info.push_back(i);
    const Bytes key(22, 0x0b);
    CHECK(to_hex(hkdf_sha256(key, salt, info, 42).view()) ==
          "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    CHECK(to_hex(hkdf_sha256(key, {}, {}, 42).view()) ==
          "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}
