#include "stale_channel.h"

#include <linux/close_range.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vtpm/base/log.h"

namespace vtpm::front {
namespace {

// In a child of a process with threads: system calls only.
[[noreturn]] void keep(int descriptor, char* name) {
    name[0] = '@';
    ::setsid();
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    const auto kept = static_cast<unsigned>(descriptor);
    if (kept > 0)
        ::close_range(0, kept - 1, 0);
    ::close_range(kept + 1, ~0U, 0);
    for (;;)
        ::pause();
}

}  // namespace

void lay_aside(std::unique_ptr<xen::EventChannel> channel, char* name) {
    if (!channel)
        return;
    const pid_t keeper = ::fork();
    if (keeper == 0)
        keep(channel->fd(), name);
    if (keeper > 0)
        return;  // and closes ours, which is not the last one
    spdlog::warn("no process to keep a stale event channel, so this one does: {}",
                 std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): one thread logs
    (void)channel.release();
}

}  // namespace vtpm::front
