#include <catch2/catch.hpp>
#include <string>

#include "vtpm/xen/store_number.h"
#include "vtpm/xen/xenbus_state.h"

using namespace vtpm::xen;
using namespace std::string_literals;

TEST_CASE("a number in the store is decimal digits within 32 bits") {
    CHECK(parse_store_number("0") == 0U);
    CHECK(parse_store_number("8") == 8U);
    CHECK(parse_store_number("0000000007") == 7U);
    CHECK(parse_store_number("4294967295") == 4294967295U);
}

TEST_CASE("nothing else is a number") {
    const auto text = GENERATE(as<std::string>(), "", " ", "8 ", " 8", "+8", "-8", "-1", "0x8",
                               "8a", "eight", "4294967296", "9999999999", "00000000008",
                               "18446744073709551624", "8\n", "1e3", "8.0", "\xff\xfe");
    CAPTURE(text);
    CHECK_FALSE(parse_store_number(text));
}

TEST_CASE("a byte 0 inside a number is not its end") {
    CHECK_FALSE(parse_store_number("8\0"s));
    CHECK_FALSE(parse_store_number("8\0 9"s));
}

TEST_CASE("a state is one digit from 1 to 6") {
    CHECK(parse_xenbus_state("1") == XenbusState::initialising);
    CHECK(parse_xenbus_state("2") == XenbusState::init_wait);
    CHECK(parse_xenbus_state("3") == XenbusState::initialised);
    CHECK(parse_xenbus_state("4") == XenbusState::connected);
    CHECK(parse_xenbus_state("5") == XenbusState::closing);
    CHECK(parse_xenbus_state("6") == XenbusState::closed);
    CHECK(to_string(XenbusState::init_wait) == "2");
}

TEST_CASE("nothing else is a state") {
    const auto text = GENERATE(as<std::string>(), "", "0", "7", "8", "9", "04", "4 ", " 4", "-4",
                               "4\n", "44", "connected", ":", "/");
    CAPTURE(text);
    CHECK_FALSE(parse_xenbus_state(text));
}

TEST_CASE("a byte 0 after a state is not its end") {
    CHECK_FALSE(parse_xenbus_state("4\0"s));
}
