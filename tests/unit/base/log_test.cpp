#include "vtpm/base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>

#include "vtpm/base/fd.h"

using namespace vtpm;

namespace {

// While it lives, standard error is a pipe.
class Pipe {
  public:
    Pipe() : kept_(::dup(STDERR_FILENO)) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        out_ = Fd(ends[0]);
        const Fd in(ends[1]);
        REQUIRE(::dup2(in.get(), STDERR_FILENO) == STDERR_FILENO);
        REQUIRE(::fcntl(out_.get(), F_SETFL, O_NONBLOCK) == 0);
        before_ = spdlog::default_logger();
        log::init("test");
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        ::dup2(kept_.get(), STDERR_FILENO);
        spdlog::set_default_logger(before_);
    }
    std::string read() {
        std::string all;
        std::array<char, 4096> piece{};
        for (;;) {
            const auto got = ::read(out_.get(), piece.data(), piece.size());
            if (got <= 0)
                return all;
            all.append(piece.data(), static_cast<std::size_t>(got));
        }
    }
    void close_reader() { out_.reset(); }

  private:
    Fd kept_;
    Fd out_;
    std::shared_ptr<spdlog::logger> before_;
};

}  // namespace

TEST_CASE("a log that nobody reads keeps nobody waiting, and says what it has lost") {
    Pipe pipe;
    const std::string line(1000, 'x');
    ::alarm(60);  // a log that waits would wait for ever
    for (int i = 0; i < 200; ++i)
        spdlog::info("{}", line);
    ::alarm(0);
    const auto first = pipe.read();
    CHECK(first.find(line) != std::string::npos);
    CHECK(first.size() <= 65536);

    spdlog::info("after");
    const auto later = pipe.read();
    INFO(later);
    const auto lost = 200 - static_cast<int>(std::count(first.begin(), first.end(), '\n'));
    REQUIRE(lost > 0);
    CHECK(later.find(std::to_string(lost) + " lines before this one were lost") !=
          std::string::npos);
    CHECK(later.find("info: after\n") != std::string::npos);
    spdlog::info("on");
    CHECK(pipe.read().find("lost") == std::string::npos);
}

TEST_CASE("a log whose reader has gone is no error") {
    Pipe pipe;
    struct sigaction before {};
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    REQUIRE(::sigaction(SIGPIPE, &ignore, &before) == 0);
    pipe.close_reader();
    spdlog::error("nobody reads this");
    CHECK(::sigaction(SIGPIPE, &before, nullptr) == 0);
}
