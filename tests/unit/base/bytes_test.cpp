#include "vtpm/base/bytes.h"

#include <catch2/catch.hpp>

using namespace vtpm;

TEST_CASE("a reader gives numbers big-endian and stops at the end") {
    const Bytes bytes = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07};
    ByteReader reader(bytes);
    CHECK(reader.u8().value() == 0x01);
    CHECK(reader.u16().value() == 0x0203);
    CHECK(reader.u32().value() == 0x04050607);
    CHECK(reader.left() == 0);
    const auto beyond = reader.u8();
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == Errc::malformed);
}

TEST_CASE("a read that does not fit takes nothing") {
    const Bytes bytes = {1, 2, 3};
    ByteReader reader(bytes);
    CHECK_FALSE(reader.u32());
    CHECK(reader.left() == 3);
    CHECK_FALSE(reader.bytes(SIZE_MAX));
    CHECK(reader.left() == 3);
}

TEST_CASE("what a writer wrote reads back") {
    const Bytes body = {9, 8};
    const Bytes written =
        ByteWriter().u8(1).u16(0x0203).u32(4).u64(0x0506070809ULL).sized(body).take();
    ByteReader reader(written);
    CHECK(reader.u8().value() == 1);
    CHECK(reader.u16().value() == 0x0203);
    CHECK(reader.u32().value() == 4);
    CHECK(reader.u64().value() == 0x0506070809ULL);
    CHECK(reader.u32().value() == 2);
    CHECK(to_hex(reader.rest()) == "0908");
}

TEST_CASE("hex in both directions, and what is no hex") {
    CHECK(from_hex("00fFa1").value() == Bytes{0x00, 0xff, 0xa1});
    CHECK(from_hex("").value().empty());
    CHECK_FALSE(from_hex("abc"));
    CHECK_FALSE(from_hex("0g"));
    CHECK_FALSE(from_hex("0 "));
}

TEST_CASE("comparison looks at length and content") {
    const Bytes a = {1, 2, 3};
    const Bytes b = {1, 2, 4};
    CHECK(equal_constant_time(a, Bytes{1, 2, 3}));
    CHECK_FALSE(equal_constant_time(a, b));
    CHECK_FALSE(equal_constant_time(a, ByteView(a).first(2)));
    CHECK(equal_constant_time({}, {}));
}
