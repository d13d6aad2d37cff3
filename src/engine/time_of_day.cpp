#include "vtpm/engine/time_of_day.h"

#include <sys/time.h>

#include <atomic>
#include <ctime>

namespace vtpm::engine {
namespace {

constexpr std::int64_t second = 1'000'000;            // in microseconds
constexpr std::int64_t end = 4'102'444'800 * second;  // 2100

std::int64_t now(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return time.tv_sec * second + time.tv_nsec / 1000;
}

// What the time of day is ahead of the time since the host's start, at most: it is set forward, but
// never back.
std::atomic<std::int64_t> ahead = 0;

void be_ahead_by(std::int64_t lead, std::int64_t since_boot) {
    if (lead >= end - since_boot)
        return;
    auto most = ahead.load();
    while (lead > most && !ahead.compare_exchange_weak(most, lead)) {
    }
}

}  // namespace

std::uint64_t time_of_day() {
    // In this order what a pause between the two adds is taken for no lead.
    const auto host = now(CLOCK_REALTIME);
    const auto since_boot = now(CLOCK_BOOTTIME);
    be_ahead_by(host - since_boot, since_boot);
    return static_cast<std::uint64_t>(since_boot + ahead.load());
}

void go_on_from_time_of_day(std::uint64_t microseconds) {
    const auto since_boot = now(CLOCK_BOOTTIME);
    if (microseconds < static_cast<std::uint64_t>(end))
        be_ahead_by(static_cast<std::int64_t>(microseconds) - since_boot, since_boot);
}

}  // namespace vtpm::engine

// A program's own is found before the C library's, by libraries as well.
extern "C" int gettimeofday(timeval* time, void* /*zone*/) noexcept {
    const auto value = static_cast<std::int64_t>(vtpm::engine::time_of_day());
    time->tv_sec = value / vtpm::engine::second;
    time->tv_usec = value % vtpm::engine::second;
    return 0;
}
