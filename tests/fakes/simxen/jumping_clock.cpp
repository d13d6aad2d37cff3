// Preloaded into a program whose clock is to jump: the time of day is off by as many seconds as the
// file says that VTPM_TEST_CLOCK names. The monotonic clocks are the kernel's.
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace {

time_t shift() {
    const char* const name = ::getenv("VTPM_TEST_CLOCK");
    time_t seconds = 0;
    if (name != nullptr)
        std::ifstream(name) >> seconds;
    return seconds;
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
    const auto done = static_cast<int>(::syscall(SYS_clock_gettime, clock, now));
    if (done == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += shift();
    return done;
}

extern "C" time_t time(time_t* out) noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr)
        *out = now.tv_sec;
    return now.tv_sec;
}
