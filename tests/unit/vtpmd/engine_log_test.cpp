#include "engine_log.h"

#include <spdlog/sinks/ostream_sink.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <sstream>

#include "vtpm/base/log.h"

using namespace vtpm;
using namespace vtpm::doorman;
using namespace std::chrono_literals;

namespace {

// What went into the journal, in the place of the default logger.
class Journal {
  public:
    Journal() : before_(spdlog::default_logger()) {
        auto logger = std::make_shared<spdlog::logger>(
            "journal", std::make_shared<spdlog::sinks::ostream_sink_st>(text_));
        logger->set_pattern("%l %v");
        spdlog::set_default_logger(std::move(logger));
    }
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    ~Journal() { spdlog::set_default_logger(before_); }

    std::string take() {
        auto text = text_.str();
        text_.str("");
        return text;
    }
    std::size_t lines() {
        const auto text = take();
        return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    }

  private:
    std::ostringstream text_;
    std::shared_ptr<spdlog::logger> before_;
};

struct Bench {
    Journal journal;
    EngineLog log{"the engine"};
    Fd engine = *log.open();
    EngineLog::Clock::time_point now = EngineLog::Clock::now();

    ssize_t write(const std::string& text) {
        return ::write(engine.get(), text.data(), text.size());
    }
    void read(std::chrono::seconds later = 0s) {
        now += later;
        log.read(now);
    }
};

}  // namespace

TEST_CASE("an engine's lines are told with what they say they are, an error at most") {
    Bench bench;
    bench.write("<0>the end\n<4>careful\n<6>all well\nwhat libtpms says\n\n<9>x\n");
    bench.read();
    CHECK(bench.journal.take() ==
          "error the engine: the end\nwarning the engine: careful\ninfo the engine: all well\n"
          "info the engine: what libtpms says\ninfo the engine: <9>x\n");
}

TEST_CASE("a line comes in pieces, or has no end") {
    Bench bench;
    bench.write("half a");
    bench.read();
    CHECK(bench.journal.take().empty());
    bench.write(" line\n" + std::string(2 * EngineLog::line_limit, 'x'));
    bench.read();
    const auto cut = "info the engine: " + std::string(EngineLog::line_limit, 'x') + "\n";
    CHECK(bench.journal.take() == "info the engine: half a line\n" + cut + cut);
    bench.write("its last word");
    bench.engine.reset();
    bench.log.finish(bench.now);
    CHECK(bench.journal.take() == "info the engine: its last word\n");
    CHECK_FALSE(bench.log.is_open());
}

TEST_CASE("nothing that moves a terminal, nor another's line, comes through") {
    Bench bench;
    bench.write(std::string("\x1b[2J\rvtpmmgrd: all keys are lost\x7f\xc2\x9b\0!\n", 38));
    bench.read();
    CHECK(bench.journal.take() ==
          "info the engine: ?[2J?vtpmmgrd: all keys are lost????"
          "!\n");
}

TEST_CASE("a flood of lines is a few a minute, and stays in the pipe") {
    Bench bench;
    const std::string full = "<0>flood\n";
    std::size_t taken = 0;
    for (int i = 0; i < 100'000; ++i) {
        if (bench.write(full) > 0)
            ++taken;
        if (bench.log.fd(bench.now) >= 0)
            bench.read();
    }
    CHECK(taken < 20'000);
    CHECK(bench.log.fd(bench.now) < 0);
    const auto next = bench.log.readable_from() - bench.now;
    CHECK((next > 0s && next <= EngineLog::interval));
    const auto said = bench.journal.take();
    CHECK(said.find("warning the engine writes too much: from here on 30 lines a minute") !=
          std::string::npos);
    CHECK(std::count(said.begin(), said.end(), '\n') == EngineLog::burst + 1);

    for (int second = 0; second < 60; ++second) {
        bench.write(full);
        bench.read(1s);
    }
    CHECK(bench.journal.lines() == 30);
    // A new engine of the same guest does not begin afresh.
    bench.engine = *bench.log.open();
    CHECK(bench.write(full) > 0);
    bench.read();
    CHECK(bench.journal.lines() <= 1);
}
