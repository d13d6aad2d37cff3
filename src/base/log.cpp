#include "vtpm/base/log.h"

#include <poll.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

namespace vtpm::log {
namespace {

// "%*": the level as a syslog priority (RFC 5424 table 2).
class Priority : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        out.push_back('<');
        out.push_back(digit(message.level));
        out.push_back('>');
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return spdlog::details::make_unique<Priority>();
    }

  private:
    static char digit(spdlog::level::level_enum level) {
        switch (level) {
            case spdlog::level::critical:
                return '2';
            case spdlog::level::err:
                return '3';
            case spdlog::level::warn:
                return '4';
            case spdlog::level::info:
                return '6';
            default:
                return '7';
        }
    }
};

// A journal that stands still, on a full disk say, must not make us stand still as well: a line
// that it does not take at once is lost, and counted. One write a line, and none longer than what
// there is room for where there is room for a byte, in a socket as in a pipe (PIPE_BUF).
class ImpatientSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
  protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
        if (lost_ > 0 && write_line(spdlog::details::log_msg(
                             message.logger_name, spdlog::level::warn,
                             std::to_string(lost_) + " lines before this one were lost: nobody "
                                                     "took them")))
            lost_ = 0;
        if (lost_ > 0 || !write_line(message))
            ++lost_;
    }
    void flush_() override {}

  private:
    bool write_line(const spdlog::details::log_msg& message) {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        if (line.size() > PIPE_BUF) {
            line.resize(PIPE_BUF);
            line[PIPE_BUF - 1] = '\n';
        }
        pollfd out{STDERR_FILENO, POLLOUT, 0};
        if (::poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0)
            return false;
        ssize_t done = 0;
        do {
            done = ::write(STDERR_FILENO, line.data(), line.size());
        } while (done < 0 && errno == EINTR);
        return done > 0;
    }

    std::uint64_t lost_ = 0;
};

}  // namespace

void init(const std::string& program, Times times) {
    auto logger = std::make_shared<spdlog::logger>(program, std::make_shared<ImpatientSink>());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
    const std::string time = times == Times::shown ? "%Y-%m-%d %T " : "";
    formatter->add_flag<Priority>('*').set_pattern(journal ? "%*%v" : time + "%n[%P] %l: %v");
    logger->set_formatter(std::move(formatter));
    logger->flush_on(spdlog::level::trace);
    spdlog::set_default_logger(logger);
}

std::string printable(std::string_view text) {
    constexpr std::size_t limit = 120;
    std::string shown(text.substr(0, limit));
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < 0x20 || c == 0x7f; }, '?');
    if (text.size() > limit)
        shown += "...";
    return shown;
}

}  // namespace vtpm::log
