#include "vtpm/base/uuid.h"

#include <catch2/catch.hpp>
#include <string>

using namespace vtpm;

TEST_CASE("a uuid's text reads back, in lower case") {
    const std::string text = "0123abcd-4567-89ef-0123-456789abcdef";
    CHECK(Uuid::parse(text).value().to_string() == text);
    CHECK(Uuid::parse("0123ABCD-4567-89EF-0123-456789ABCDEF").value().to_string() == text);
}

TEST_CASE("what is not exactly a uuid is refused") {
    const char* const bad[] = {
        "",
        "0123abcd",
        "{0123abcd-4567-89ef-0123-456789abcdef}",
        "0123abcd4567-89ef-0123-456789abcdef-",
        "0123abcd-4567-89ef-0123-456789abcdeg",
        "0123abcd-4567-89ef-0123-456789abcdef ",
        "0123abcd_4567_89ef_0123_456789abcdef",
    };
    for (const auto* text : bad) {
        INFO(text);
        CHECK_FALSE(Uuid::parse(text));
    }
}

TEST_CASE("random uuids are version 4 and differ") {
    const auto a = Uuid::random();
    CHECK(a.to_string()[14] == '4');
    CHECK(std::string("89ab").find(a.to_string()[19]) != std::string::npos);
    CHECK(a != Uuid::random());
    CHECK_FALSE(a.is_nil());
    CHECK(Uuid().is_nil());
}
