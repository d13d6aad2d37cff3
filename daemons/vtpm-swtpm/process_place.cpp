#include "process_place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

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

struct LeftBehind {
    std::string path;
    dev_t device;
    ino_t inode;
};

std::vector<LeftBehind>& left_behind() {
    static std::vector<LeftBehind> all;
    return all;
}

void remove_left_behind() {
    for (const auto& left : left_behind()) {
        struct stat there {};
        if (::lstat(left.path.c_str(), &there) == 0 && there.st_dev == left.device &&
            there.st_ino == left.inode)
            (void)::unlink(left.path.c_str());
    }
}

}  // namespace

Result<void> take_place(const Options& options) {
    ::unsetenv("JOURNAL_STREAM");
    ::unsetenv("NOTIFY_SOCKET");
    if (options.log_descriptor >= 0)
        return to_standard_error(options.log_descriptor, "--log fd=");
    if (options.log_file.empty())
        return {};
    const Fd log(::open(
        options.log_file.c_str(),
        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0640));
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
    Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null.valid() || ::dup2(null.get(), STDIN_FILENO) < 0 ||
        ::dup2(null.get(), STDOUT_FILENO) < 0)
        return fail_errno("/dev/null", errno);
    return Background(std::move(writer), std::move(null));
}

void Background::ready(bool keeps_error) {
    if (!keeps_error)
        (void)::dup2(null_.get(), STDERR_FILENO);
    (void)write_all(writer_.get(), as_bytes(std::string_view("\n")));
    writer_.reset();
    null_.reset();
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
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644));
    if (!file.valid())
        return fail_errno(options.pid_file, errno);
    VTPM_CHECK(write_all(file.get(), as_bytes(pid)));
    remove_at_exit(options.pid_file);
    return {};
}

void remove_at_exit(const std::string& path) {
    struct stat there {};
    if (::lstat(path.c_str(), &there) != 0)
        return;
    if (left_behind().empty())
        (void)std::atexit(remove_left_behind);
    left_behind().push_back({path, there.st_dev, there.st_ino});
}

}  // namespace vtpm::swtpm
