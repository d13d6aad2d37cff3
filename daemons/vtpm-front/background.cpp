#include "background.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace vtpm::front {
namespace {

[[noreturn]] void end_as(pid_t child, const Fd& from_child) {
    std::array<std::uint8_t, 1> byte{};
    if (read_exactly(from_child.get(), byte))
        ::_exit(EXIT_SUCCESS);
    int status = 0;
    const bool known = ::waitpid(child, &status, 0) == child && WIFEXITED(status);
    ::_exit(known ? WEXITSTATUS(status) : EXIT_FAILURE);
}

}  // namespace

Result<Background> Background::enter() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return fail_errno("pipe2", errno);
    const Fd from_child(ends[0]);
    Background background;
    background.parent_ = Fd(ends[1]);
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0)
        return fail_errno("fork", errno);
    if (child > 0) {
        background.parent_.reset();
        end_as(child, from_child);
    }
    // Whoever ends the one who waits, as a unit does whose time is up, means this one: it would
    // hold the device.
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return fail_errno("prctl", errno);
    if (::getppid() != parent)
        ::_exit(EXIT_FAILURE);
    if (::setsid() < 0 || ::chdir("/") != 0)
        return fail_errno("setsid", errno);
    return background;
}

void Background::ready() {
    const std::uint8_t byte = 0;
    if (parent_.valid()) {
        ::prctl(PR_SET_PDEATHSIG, 0);
        (void)write_all(parent_.get(), {&byte, 1});
    }
    parent_.reset();
}

}  // namespace vtpm::front
