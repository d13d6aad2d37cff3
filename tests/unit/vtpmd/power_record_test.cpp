#include "power_record.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "fakes/chip/swtpm.h"

using namespace vtpm;
using namespace vtpm::doorman;

namespace {

struct Place {
    fakes::TemporaryDirectory directory;
    PowerRecord record{directory.path(), {5, 0}};
    std::filesystem::path file = directory.path() / "powered-5-0";
    Uuid uuid = Uuid::random();

    void write(const std::string& text) const { std::ofstream(file) << text; }
    Powered some() const {
        return {uuid, tpm::Version::v1_2, 7, 8, 12, PoweredAs::continued, true, 1U << 30U, ~0ULL};
    }
};

}  // namespace

TEST_CASE("what one vtpmd writes the next one reads") {
    Place place;
    CHECK(place.record.read().error().code == Errc::not_found);
    CHECK_FALSE(place.record.exists(place.uuid));
    REQUIRE(place.record.write(place.some()));
    const auto read = place.record.read();
    REQUIRE(read);
    CHECK(*read == place.some());
    CHECK(place.record.exists(place.uuid));
    CHECK_FALSE(place.record.exists(Uuid::random()));
    place.record.remove();
    CHECK(std::filesystem::is_empty(place.directory.path()));
}

TEST_CASE("a record that is there is whole, whenever its writer died") {
    Place place;
    REQUIRE(place.record.write(place.some()));
    std::ofstream(place.file.string() + ".next") << "half of";
    CHECK(*place.record.read() == place.some());
    place.record.remove();
    CHECK(std::filesystem::is_empty(place.directory.path()));
}

TEST_CASE("of a record of another version, what was put by is known, and no engine") {
    Place place;
    const std::string uuid = place.uuid.to_string();
    SECTION("0.1.0, put by") {
        place.write(uuid + " 9223372036854775809 1048577 .");
    }
    SECTION("one to come") {
        place.write(uuid + " 9223372036854775809 1048577 . v2 something else altogether\n");
    }
    const auto read = place.record.read();
    REQUIRE(read);
    CHECK(*read == Powered{.instance = place.uuid, .life = 1048577, .label = 9223372036854775809U});
    CHECK(place.record.exists(place.uuid));
}

TEST_CASE("a record of 0.1.0 whose TPM was not put by says that") {
    Place place;
    place.write(place.uuid.to_string());
    CHECK(*place.record.read() == Powered{.instance = place.uuid});
    CHECK(place.record.exists(place.uuid));
}

// The first fields stay where they are, and the line within what 0.1.0 reads.
TEST_CASE("0.1.0 can read what was put by") {
    Place place;
    REQUIRE(place.record.write(
        {place.uuid, tpm::Version::v1_2, ~0U, ~0U, ~0U, PoweredAs::failed, true, ~0U, ~0ULL}));
    const auto content = read_file(place.file.c_str(), 128);
    REQUIRE(content);
    const std::string start = place.uuid.to_string() + " 18446744073709551615 4294967295 . ";
    CHECK(std::string(content->begin(), content->end()).starts_with(start));
}

TEST_CASE("a record that cannot be read counts, and says nothing") {
    Place place;
    const std::string uuid = place.uuid.to_string();
    const std::string whole = uuid + " 0 0 . v1 2 1 8 12 0 0 .";
    place.write(whole);
    REQUIRE(place.record.read());
    for (const auto& text : {std::string(), std::string("nonsense"), uuid + " 5", uuid + " 5 5",
                             uuid + " 5 x .", whole.substr(0, whole.size() - 1),
                             uuid + " 0 0 . v1 3 1 8 12 0 0 .", uuid + " 0 0 . v1 2 1 8 12 3 0 .",
                             uuid + " 0 0 . v1 2 1 8 12 0 2 .", std::string(300, '1')}) {
        INFO(text);
        place.write(text);
        CHECK_FALSE(place.record.read());
        CHECK(place.record.exists(place.uuid));
    }
}
