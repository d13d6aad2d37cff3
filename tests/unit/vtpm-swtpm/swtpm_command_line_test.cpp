#include "swtpm_command_line.h"

#include <unistd.h>

#include <CLI/Error.hpp>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "state_directory.h"
#include "vtpm/base/fd.h"

using namespace vtpm;
using namespace vtpm::swtpm;

TEST_CASE("an option's settings") {
    const std::set<std::string> known{"type", "path", "terminate"};
    const auto settings = settings_of("--ctrl", "type=unixio,path=/a=b,terminate", known);
    CHECK(settings.at("type") == "unixio");
    CHECK(settings.at("path") == "/a=b");
    CHECK(settings.at("terminate").empty());
    CHECK(settings.size() == 3);
    CHECK(settings_of("--ctrl", "", known).empty());
    CHECK_THROWS_AS(settings_of("--ctrl", "type=unixio,paht=x", known), CLI::ParseError);
    CHECK_THROWS_AS(settings_of("--ctrl", "=x", known), CLI::ParseError);
}

TEST_CASE("the name decides whose command line it is") {
    CHECK(started_as_swtpm("/usr/lib/xen-vtpm/swtpm/swtpm"));
    CHECK(started_as_swtpm("swtpm"));
    CHECK_FALSE(started_as_swtpm("/usr/sbin/vtpm-swtpm"));
    CHECK_FALSE(started_as_swtpm("/swtpm/vtpm-swtpm"));
}

TEST_CASE("a state directory names its TPM, or nothing") {
    char name[] = "/tmp/vtpm-state-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    const std::filesystem::path directory = name;
    const auto write = [&](const std::string& text) {
        std::ofstream(directory / "tpm2-00.permall", std::ios::binary) << text;
    };
    const std::string uuid = "4cfb36bc-9b2b-4f3c-9c4c-1f4a5b7d9e01";

    CHECK(instance_in(name, tpm::Version::v2_0).error().code == Errc::not_found);
    write("xen-vtpm-instance " + uuid + "\n");
    CHECK(instance_in(name, tpm::Version::v2_0).value() == uuid);
    CHECK(instance_in(name, tpm::Version::v1_2).error().code == Errc::not_found);
    const std::string mark = "xen-vtpm-instance ";
    const std::vector<std::string> others = {"",
                                             uuid,
                                             mark,
                                             mark + uuid + "x",
                                             mark + uuid + "\n\n" + uuid,
                                             std::string(5000, '\0'),
                                             std::string(10, '\2')};
    for (const auto& text : others) {
        INFO(text.size());
        write(text);
        const auto read = instance_in(name, tpm::Version::v2_0);
        REQUIRE_FALSE(read);
        CHECK(read.error().code == Errc::malformed);
    }
    std::filesystem::remove_all(directory);
}

TEST_CASE("what is taken names a TPM and one way to it") {
    char name[] = "/tmp/vtpm-state-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    const std::filesystem::path directory = name;
    const std::string uuid = "4cfb36bc-9b2b-4f3c-9c4c-1f4a5b7d9e01";
    std::ofstream(directory / "tpm2-00.permall") << "xen-vtpm-instance " << uuid << "\n";
    const auto parse = [&](std::vector<std::string> more) {
        const std::string state = "dir=" + directory.string();
        std::vector<const char*> words = {"swtpm", "socket", "--tpm2", "--tpmstate", state.c_str()};
        for (const auto& word : more)
            words.push_back(word.c_str());
        CLI::App app;
        return parse_swtpm(app, static_cast<int>(words.size()), words.data());
    };
    const auto pair = stream_socket_pair().value();
    const std::string descriptor = std::to_string(pair.first.get());

    const auto options = parse({"--ctrl", "type=unixio,path=c", "--fd", descriptor});
    CHECK(options.instance == uuid);
    CHECK(options.control.address->path == "c");
    CHECK(options.data.peer == pair.first.get());
    CHECK(parse({"--server", "type=unixio,path=d"}).data.address->path == "d");
    CHECK_THROWS_AS(parse({}), CLI::ParseError);
    CHECK_THROWS_AS(parse({"--server", "type=unixio,path=d", "--fd", descriptor}), CLI::ParseError);
    CHECK_THROWS_AS(parse({"--ctrl", "type=unixio,fd=" + descriptor, "--fd", descriptor}),
                    CLI::ParseError);
    CHECK_THROWS_AS(parse({"--help"}), CLI::Success);
    std::filesystem::remove_all(directory);
}
