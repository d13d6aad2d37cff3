#include "time_of_day.h"

#include <sys/time.h>

#include <atomic>
#include <cstdint>
#include <ctime>

namespace {

constexpr std::int64_t microseconds = 1'000'000;

std::int64_t now(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return time.tv_sec * microseconds + time.tv_nsec / 1000;
}

// What the time of day is ahead of the time since the host's start, at most: it is set forward, but
// never back.
std::atomic<std::int64_t> ahead = 0;

std::int64_t time_of_day() {
    const auto since_boot = now(CLOCK_BOOTTIME);
    const auto lead = now(CLOCK_REALTIME) - since_boot;
    auto most = ahead.load();
    while (lead > most && !ahead.compare_exchange_weak(most, lead)) {
    }
    return since_boot + ahead.load();
}

}  // namespace

// A program's own is found before the C library's, by libraries as well.
extern "C" int gettimeofday(timeval* time, void* /*zone*/) noexcept {
    const auto value = time_of_day();
    time->tv_sec = value / microseconds;
    time->tv_usec = value % microseconds;
    return 0;
}

namespace vtpm::engine {

void use_steady_time_of_day() {
    (void)time_of_day();
}

}  // namespace vtpm::engine
