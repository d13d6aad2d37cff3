#include "process_place.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace vtpm::swtpm {
namespace {

Result<void> to_standard_error(int fd, const std::string& what) {
    if (::dup2(fd, STDERR_FILENO) < 0)
        return fail_errno(what, errno);
    return {};
}

// The child is ready, or gone; who started us reads our exit code.
[[noreturn]] void end_when_ready(Fd ready, pid_t child) {
    char one = 0;
    ssize_t got = 0;
    do {
        got = ::read(ready.get(), &one, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1)
        ::_exit(EXIT_SUCCESS);
    int status = 0;
    ::waitpid(child, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

}  // namespace

Result<void> redirect_log(const Options& options) {
    if (options.log_descriptor >= 0)
        return to_standard_error(options.log_descriptor, "--log fd=");
    if (options.log_file.empty())
        return {};
    const Fd log(::open(options.log_file.c_str(),
                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0640));
    if (!log.valid())
        return fail_errno(options.log_file, errno);
    return to_standard_error(log.get(), options.log_file);
}

Result<Background> Background::enter() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return fail_errno("pipe2", errno);
    Fd reader(ends[0]);
    Fd writer(ends[1]);
    const pid_t child = ::fork();
    if (child < 0)
        return fail_errno("fork", errno);
    if (child > 0) {
        writer.reset();
        end_when_ready(std::move(reader), child);
    }
    ::setsid();
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null.valid() || ::dup2(null.get(), STDIN_FILENO) < 0 ||
        ::dup2(null.get(), STDOUT_FILENO) < 0)
        return fail_errno("/dev/null", errno);
    return Background(std::move(writer));
}

void Background::ready() {
    (void)write_all(writer_.get(), as_bytes(std::string_view("\n")));
    writer_.reset();
}

Result<void> write_pid(const Options& options) {
    const auto pid = std::to_string(::getpid()) + "\n";
    if (options.pid_descriptor >= 0) {
        const Fd given(options.pid_descriptor);
        return write_all(given.get(), as_bytes(pid));
    }
    if (options.pid_file.empty())
        return {};
    const Fd file(::open(options.pid_file.c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file.valid())
        return fail_errno(options.pid_file, errno);
    return write_all(file.get(), as_bytes(pid));
}

}  // namespace vtpm::swtpm
