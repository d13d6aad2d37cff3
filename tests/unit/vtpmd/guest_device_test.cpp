#include "guest_device.h"

#include <catch2/catch.hpp>

using vtpm::doorman::GuestDevice;

TEST_CASE("a device's name reads as two numbers") {
    const auto guest = GuestDevice::parse("17-3").value();
    CHECK(guest.domain == 17);
    CHECK(guest.device == 3);
    CHECK(guest.to_string() == "17-3");
    CHECK(GuestDevice::parse("32751-255"));
}

TEST_CASE("anything else is refused") {
    for (const auto* text : {"", "-", "1", "1-", "-1", "1-2-3", "01-2", "1-02", "+1-2", "1- 2",
                             "32752-0", "1-256", "99999999999-0", "1-0x2", "a-b", "1-2\n"}) {
        INFO(text);
        CHECK_FALSE(GuestDevice::parse(text));
    }
}

TEST_CASE("no two devices share a uid, and all lie in the unused range") {
    const auto first = GuestDevice{0, 0}.engine_uid();
    const auto last = GuestDevice{0x7FEF, 255}.engine_uid();
    CHECK(first == 1879048192U);
    CHECK(last < 2147483647U);
    CHECK(GuestDevice{1, 0}.engine_uid() == GuestDevice{0, 255}.engine_uid() + 1);
}
