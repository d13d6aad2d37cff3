#include "vtpm/engine/time_of_day.h"

#include <sys/time.h>

#include <atomic>
#include <ctime>

namespace vtpm::engine {
namespace {

constexpr std::int64_t second = 1'000'000;  // in microseconds
constexpr std::uint64_t latest = 1ULL << 53U;

std::int64_t now(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return time.tv_sec * second + time.tv_nsec / 1000;
}

// What the time of day is ahead of the time since the host's start, at most: it is set forward, but
// never back.
std::atomic<std::int64_t> ahead = 0;

void be_ahead_by(std::int64_t lead) {
    auto most = ahead.load();
    while (lead > most && !ahead.compare_exchange_weak(most, lead)) {
    }
}

}  // namespace

std::uint64_t time_of_day() {
    const auto since_boot = now(CLOCK_BOOTTIME);
    be_ahead_by(now(CLOCK_REALTIME) - since_boot);
    return static_cast<std::uint64_t>(since_boot + ahead.load());
}

void go_on_from_time_of_day(std::uint64_t microseconds) {
    if (microseconds <= latest)
        be_ahead_by(static_cast<std::int64_t>(microseconds) - now(CLOCK_BOOTTIME));
}

}  // namespace vtpm::engine

// A program's own is found before the C library's, by libraries as well.
extern "C" int gettimeofday(timeval* time, void* /*zone*/) noexcept {
    const auto value = static_cast<std::int64_t>(vtpm::engine::time_of_day());
    time->tv_sec = value / vtpm::engine::second;
    time->tv_usec = value % vtpm::engine::second;
    return 0;
}
