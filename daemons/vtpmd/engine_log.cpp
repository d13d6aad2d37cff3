#include "engine_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vtpm/base/log.h"

namespace vtpm::doorman {
namespace {

constexpr std::size_t text_limit = 4096;

// "<3>text" as the engine's own log writes it for a journal; an engine's emergency is its guest's.
spdlog::level::level_enum take_priority(std::string_view& line) {
    if (line.size() < 3 || line[0] != '<' || line[1] < '0' || line[1] > '7' || line[2] != '>')
        return spdlog::level::info;
    const char priority = line[1];
    line.remove_prefix(3);
    if (priority <= '3')
        return spdlog::level::err;
    return priority <= '4' ? spdlog::level::warn : spdlog::level::info;
}

}  // namespace

Result<Fd> EngineLog::open() {
    finish(Clock::now());
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
        return fail_errno("a pipe for the engine's log", errno);
    pipe_ = Fd(ends[0]);
    return Fd(ends[1]);
}

// False: nothing there now, or nothing more to come.
bool EngineLog::fill() {
    std::array<char, text_limit> bytes{};
    const auto got = ::read(pipe_.get(), bytes.data(), text_limit - text_.size());
    if (got > 0) {
        text_.append(bytes.data(), static_cast<std::size_t>(got));
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        pipe_.reset();
    return false;
}

void EngineLog::read(Clock::time_point now) {
    if (!pipe_.valid() || !lines_.allows(now))
        return;
    if (text_.size() < text_limit)
        (void)fill();
    tell(now, false);
    if (!lines_.allows(now) && complaints_.allows(now)) {
        complaints_.take(now);
        spdlog::warn("{} writes too much: from here on {} lines a minute are shown", who_,
                     std::chrono::minutes(1) / interval);
    }
}

void EngineLog::finish(Clock::time_point now) {
    tell(now, false);
    while (pipe_.valid() && lines_.allows(now) && fill())
        tell(now, false);
    tell(now, true);
    text_.clear();
    pipe_.reset();
}

// Whole lines, and what is too long to be one; `all`: the last one too, which has no end.
void EngineLog::tell(Clock::time_point now, bool all) {
    while (!text_.empty() && lines_.allows(now)) {
        const auto end = text_.find('\n');
        if (end == std::string::npos && text_.size() < line_limit && !all)
            return;
        const auto size = std::min({end, line_limit, text_.size()});
        if (size > 0) {
            lines_.take(now);
            tell_line(std::string_view(text_).substr(0, size));
        }
        text_.erase(0, size == end ? size + 1 : size);
    }
}

void EngineLog::tell_line(std::string_view line) {
    const auto level = take_priority(line);
    std::string shown(line);
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    spdlog::log(level, "{}: {}", who_, shown);
}

}  // namespace vtpm::doorman
