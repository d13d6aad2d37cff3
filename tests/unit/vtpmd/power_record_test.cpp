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

TEST_CASE("a record of another version is named as such, and counts") {
    Place place;
    place.write(place.uuid.to_string() + " v2 something else altogether\n");
    const auto read = place.record.read();
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::unsupported);
    CHECK(read.error().context.find("another version of vtpmd") != std::string::npos);
    CHECK(place.record.exists(place.uuid));
}

TEST_CASE("a record that cannot be read counts, and says nothing") {
    Place place;
    const std::string whole = place.uuid.to_string() + " v1 2 1 8 12 0 0 0 0 .";
    place.write(whole);
    REQUIRE(place.record.read());
    for (const auto& text :
         {std::string(), std::string("nonsense"), place.uuid.to_string(),
          whole.substr(0, whole.size() - 1), place.uuid.to_string() + " v1 3 1 8 12 0 0 0 0 .",
          place.uuid.to_string() + " v1 2 1 8 12 3 0 0 0 .",
          place.uuid.to_string() + " v1 2 1 8 12 0 2 0 0 .", std::string(300, '1')}) {
        INFO(text);
        place.write(text);
        CHECK_FALSE(place.record.read());
        CHECK(place.record.exists(place.uuid));
    }
}
