#include "vtpm/base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
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

}  // namespace

void init(const std::string& program) {
    auto logger = std::make_shared<spdlog::logger>(
        program, std::make_shared<spdlog::sinks::stderr_sink_st>());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
    formatter->add_flag<Priority>('*').set_pattern(journal ? "%*%v" : "%n[%P] %l: %v");
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
