// Needs root: engines get a PID namespace of their own.
#include "engine_process.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "fakes/chip/swtpm.h"

using namespace vtpm;
using namespace vtpm::doorman;
using wire::proto::Report;

namespace {

std::string frame(const Report& report) {
    const std::string text = report.SerializeAsString();
    const Bytes prefix = wire::frame_prefix({text.size(), 0});
    return std::string(prefix.begin(), prefix.end()) + text;
}

// A program that says all of this at once, and then listens.
std::string engine_that_says(const std::filesystem::path& directory, const std::string& what) {
    std::ofstream(directory / "said", std::ios::binary) << what;
    const auto program = directory / "engine";
    std::ofstream(program) << "#!/bin/sh\ncat " << (directory / "said").string()
                           << " >&3\nexec cat <&3 >/dev/null\n";
    REQUIRE(::chmod(program.c_str(), 0700) == 0);
    return program;
}

}  // namespace

TEST_CASE("a Ready that comes while an order is under way is not lost") {
    const fakes::TemporaryDirectory directory;
    Report ready;
    ready.mutable_ready()->set_start_microseconds(5);
    Report quiesced;
    quiesced.mutable_quiesced()->set_commands(1);
    const auto program = engine_that_says(directory.path(), frame(ready) + frame(quiesced));
    auto channel = stream_socket_pair().value();
    auto engine = EngineProcess::start(program, {7, 0}, {7, 8, 12}, std::move(channel.first),
                                       Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
    REQUIRE(engine);
    REQUIRE(engine->quiesce());
    const auto seen = engine->take_ready();
    REQUIRE(seen);
    CHECK(seen->start_microseconds() == 5);
    CHECK_FALSE(engine->take_ready());
}
