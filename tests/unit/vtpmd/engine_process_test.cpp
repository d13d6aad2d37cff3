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

namespace {

// As systemd does it: copies of what an engine's vtpmd has, which then dies.
struct Left {
    Fd channel;
    Fd process;
};
Left left_by(const EngineProcess& engine) {
    const auto [channel, process] = engine.descriptors();
    return {Fd(::fcntl(channel, F_DUPFD_CLOEXEC, 3)), Fd(::fcntl(process, F_DUPFD_CLOEXEC, 3))};
}

Report standing_of(bool ready) {
    Report report;
    report.mutable_standing()->set_powered(true);
    report.mutable_standing()->set_ready(ready);
    return report;
}

// An engine that says all this at once, and its next vtpmd's end of it.
struct Adopted {
    explicit Adopted(const std::string& said) {
        auto channel = stream_socket_pair().value();
        auto engine = EngineProcess::start(engine_that_says(directory.path(), said), {7, 0},
                                           {7, 8, 12}, std::move(channel.first),
                                           Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
        REQUIRE(engine);
        auto left = left_by(*engine);
        heir.emplace(EngineProcess::adopt(std::move(left.channel), std::move(left.process)));
        first.emplace(std::move(*engine));
    }
    const fakes::TemporaryDirectory directory;
    std::optional<EngineProcess> first;  // or it would kill it
    std::optional<EngineProcess> heir;
};

}  // namespace

TEST_CASE("an adopted engine says where it stands, behind what was meant for another") {
    Report quiesced;
    quiesced.mutable_quiesced()->set_commands(1);
    Report ready;
    ready.mutable_ready();
    const bool stands_ready = GENERATE(true, false);
    std::string said = frame(standing_of(stands_ready));
    SECTION("nothing is before it") {}
    SECTION("whole reports are") {
        said = frame(ready) + frame(quiesced) + said;
    }
    Adopted adopted(said);
    const auto standing = adopted.heir->describe();
    REQUIRE(standing);
    REQUIRE(*standing);
    CHECK((*standing)->ready() == stands_ready);
    CHECK(adopted.heir->end().find("another vtpmd's child") != std::string::npos);
    CHECK(adopted.first->end() == "killed by signal 9");
}

TEST_CASE("an adopted engine that says nothing is busy") {
    Report ready;
    ready.mutable_ready();
    Adopted adopted(frame(ready));
    const auto standing = adopted.heir->describe();
    REQUIRE(standing);
    CHECK_FALSE(*standing);
}

TEST_CASE("the rest of a report that another has begun to read is passed over") {
    Report ready;
    ready.mutable_ready()->set_start_microseconds(1U << 30U);
    const std::string whole = frame(ready);
    Adopted adopted(whole.substr(wire::prefix_size));
    CHECK(adopted.heir->describe());  // as if it had said nothing
}

TEST_CASE("what a dead engine has handed over is found by the heir") {
    const fakes::TemporaryDirectory directory;
    auto ends = stream_socket_pair().value();
    auto manager = stream_socket_pair().value();
    auto sleeper = EngineProcess::start("/bin/true", {7, 0}, {7, 8, 12}, std::move(manager.first),
                                        Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
    REQUIRE(sleeper);
    auto left = left_by(*sleeper);
    sleeper->end();
    {
        wire::Channel engine(std::move(ends.second));
        Report report;
        report.mutable_handed_over();
        REQUIRE(engine.send(report, Bytes(100'000, 7)));
    }
    auto heir = EngineProcess::adopt(std::move(ends.first), std::move(left.process));
    CHECK_FALSE(heir.describe());
    const auto state = heir.take_handed_over();
    CHECK(state.size() == 100'000);
    CHECK(heir.end().find("not known") != std::string::npos);
}
