// Needs root: engines get a PID namespace of their own.
#include "engine_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <future>

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

Report standing_of(bool ready, std::uint64_t question) {
    Report report;
    report.mutable_standing()->set_powered(true);
    report.mutable_standing()->set_ready(ready);
    report.mutable_standing()->set_question(question);
    return report;
}

void say(wire::Channel& channel, const Report& report, ByteView payload = {}) {
    REQUIRE(channel.send(report, payload));
}

std::uint64_t question_to(wire::Channel& engine) {
    const auto frame = engine.receive(std::chrono::seconds(5));
    REQUIRE(frame);
    const auto order = wire::parse<wire::proto::Order>(*frame);
    REQUIRE(order);
    REQUIRE(order->has_describe());
    return order->describe().question();
}

// An engine's end of its order channel, in our hands, and its next vtpmd's.
struct Adopted {
    Adopted() {
        ::signal(SIGPIPE, SIG_IGN);  // as vtpmd does
        auto ends = stream_socket_pair().value();
        auto manager = stream_socket_pair().value();
        const auto listener = engine_that_says(directory.path(), "");
        auto other = EngineProcess::start(listener, {7, 0}, {7, 8, 12}, std::move(manager.first),
                                          Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
        REQUIRE(other);
        auto left = left_by(*other);
        heir.emplace(EngineProcess::adopt(std::move(ends.first), std::move(left.process)));
        engine.emplace(std::move(ends.second));
        process.emplace(std::move(*other));
    }
    // The question comes while the heir waits.
    void answer(std::function<void(std::uint64_t)> what) {
        answers = std::async(std::launch::async, [this, what] { what(question_to(*engine)); });
    }
    fakes::TemporaryDirectory directory;
    std::optional<EngineProcess> process;  // or it would kill it
    std::optional<EngineProcess> heir;
    std::optional<wire::Channel> engine;
    std::future<void> answers;
};

Report quiesced_after(std::uint64_t commands) {
    Report report;
    report.mutable_quiesced()->set_commands(commands);
    return report;
}

Report failure() {
    Report report;
    report.mutable_failure()->set_context("the hand-over of another");
    return report;
}

Report ready() {
    Report report;
    report.mutable_ready();
    return report;
}

}  // namespace

TEST_CASE("an adopted engine says where it stands, behind what was meant for another") {
    Adopted adopted;
    const bool stands_ready = GENERATE(true, false);
    SECTION("nothing is before it") {}
    SECTION("whole reports are") {
        say(*adopted.engine, ready());
        say(*adopted.engine, quiesced_after(1));
        say(*adopted.engine, failure());
    }
    SECTION("an answer to somebody else's question is") {
        say(*adopted.engine, standing_of(!stands_ready, 1));
    }
    adopted.answer([&](auto question) {
        say(*adopted.engine, standing_of(!stands_ready, question + 1));
        say(*adopted.engine, standing_of(stands_ready, question));
    });
    const auto standing = adopted.heir->describe();
    REQUIRE(standing);
    REQUIRE(*standing);
    CHECK((*standing)->ready() == stands_ready);
    CHECK(adopted.heir->end().find("another vtpmd's child") != std::string::npos);
    CHECK(adopted.process->end() == "killed by signal 9");
}

TEST_CASE("an adopted engine that says nothing is busy; until it speaks, nothing is meant for us") {
    Adopted adopted;
    auto& engine = *adopted.engine;
    say(engine, ready());
    const auto standing = adopted.heir->describe();
    REQUIRE(standing);
    REQUIRE_FALSE(*standing);
    const auto question = question_to(engine);
    SECTION("it is heard in the end") {
        for (const auto& report : {standing_of(false, question + 1), quiesced_after(1), failure(),
                                   ready(), standing_of(true, question)}) {
            CHECK_FALSE(adopted.heir->take_standing());
            say(engine, report);
            const auto next = adopted.heir->next_report();
            REQUIRE(next);
            CHECK_FALSE(*next);
        }
        const auto late = adopted.heir->take_standing();
        REQUIRE(late);
        CHECK(late->ready());
        // It may have been asked twice.
        say(engine, standing_of(true, question));
        CHECK_FALSE(*adopted.heir->next_report());
        say(engine, failure());
        CHECK(*adopted.heir->next_report());
    }
    SECTION("an order is answered behind it only") {
        say(engine, failure());
        say(engine, standing_of(false, question + 1));
        say(engine, standing_of(true, question));
        say(engine, quiesced_after(2));
        CHECK(adopted.heir->quiesce());
        CHECK(adopted.heir->take_standing());
    }
    SECTION("what it hands over to another is kept") {
        Report report;
        report.mutable_handed_over();
        say(engine, report, Bytes(100, 7));
        adopted.engine.reset();
        SECTION("seen in the loop") {
            CHECK_FALSE(*adopted.heir->next_report());
            CHECK_FALSE(adopted.heir->next_report());
        }
        SECTION("seen while it is given up") {
            adopted.heir->drain();
        }
        SECTION("seen while another order was to be given") {
            CHECK_FALSE(adopted.heir->hand_over());
            adopted.heir->drain();
        }
        CHECK(adopted.heir->take_handed_over().size() == 100);
    }
}

TEST_CASE("the rest of a report that another has begun to read is passed over") {
    Adopted adopted;
    Report whole = ready();
    whole.mutable_ready()->set_start_microseconds(1U << 30U);
    const auto rest = frame(whole).substr(wire::prefix_size);
    REQUIRE(write_all(adopted.engine->fd(), as_bytes(rest)));
    adopted.answer([&](auto question) { say(*adopted.engine, standing_of(true, question)); });
    const auto standing = adopted.heir->describe();
    REQUIRE(standing);
    CHECK(*standing);
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
