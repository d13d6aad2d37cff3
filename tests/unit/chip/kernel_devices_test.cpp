#include "vtpm/chip/kernel_devices.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "fakes/chip/swtpm.h"

using namespace vtpm;
using namespace vtpm::chip;
using vtpm::fakes::TemporaryDirectory;

TEST_CASE("the kernel knows the generation of a device") {
    const TemporaryDirectory place;
    const auto say = [&](const std::string& device, const std::string& text) {
        std::filesystem::create_directories(place.path() / device);
        std::ofstream(place.path() / device / "tpm_version_major") << text;
    };
    say("tpm0", "1\n");
    say("tpm1", "2\n");
    say("tpm2", "12\n");
    const auto of = [&](const std::string& tcti) {
        return generation_by_kernel(tcti, place.path());
    };
    CHECK(of("device:/dev/tpm0") == Generation::tpm_1_2);
    CHECK(of("device:/dev/tpm1") == Generation::tpm_2_0);
    CHECK(of("device:/dev/tpmrm1") == Generation::tpm_2_0);
    CHECK_FALSE(of("device:/dev/tpm2"));
    CHECK_FALSE(of("device:/dev/tpm3"));
    CHECK_FALSE(of("swtpm:path=/dev/tpm0"));
}

TEST_CASE("a chip that comes back under another number is found") {
    const TemporaryDirectory place;
    const auto hardware = [&](const std::string& device) {
        std::filesystem::create_directories(place.path() / device / "device");
    };
    const auto now = [&](const std::string& tcti) { return present_tcti(tcti, place.path()); };

    SECTION("where it was, whatever else is there") {
        hardware("tpm0");
        hardware("tpm1");
        CHECK(now("device:/dev/tpm0") == "device:/dev/tpm0");
        CHECK(now("device:/dev/tpm1") == "device:/dev/tpm1");
    }
    SECTION("under another number") {
        hardware("tpm1");
        CHECK(now("device:/dev/tpm0") == "device:/dev/tpm1");
        CHECK(now("device:/dev/tpmrm0") == "device:/dev/tpmrm1");
        CHECK(now("swtpm:path=/run/tpm0") == "swtpm:path=/run/tpm0");
        CHECK(now("device:/dev/other") == "device:/dev/other");
    }
    SECTION("one of two is nobody's guess") {
        hardware("tpm1");
        hardware("tpm2");
        CHECK(now("device:/dev/tpm0") == "device:/dev/tpm0");
    }
    SECTION("a guest program's TPM is no chip") {
        std::filesystem::create_directories(place.path() / "tpm1");
        CHECK(now("device:/dev/tpm0") == "device:/dev/tpm0");
    }
    SECTION("none") {
        CHECK(now("device:/dev/tpm0") == "device:/dev/tpm0");
        CHECK(present_tcti("device:/dev/tpm0", place.path() / "none") == "device:/dev/tpm0");
    }
}
