#include "vtpm/base/fd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace vtpm {

Fd& Fd::operator=(Fd&& other) noexcept {
    Fd taken(std::move(other));
    std::swap(fd_, taken.fd_);
    return *this;
}

void Fd::reset() {
    if (fd_ >= 0)
        ::close(std::exchange(fd_, -1));
}

Result<Fd> Fd::duplicate() const {
    Fd copy(::fcntl(fd_, F_DUPFD_CLOEXEC, 3));
    if (!copy.valid())
        return fail_errno("duplicating a descriptor", errno);
    return copy;
}

Result<FdPair> stream_socket_pair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
        return fail_errno("socketpair", errno);
    }
    return FdPair{Fd(fds[0]), Fd(fds[1])};
}

Result<void> write_all(int fd, ByteView bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && (errno == EPIPE || errno == ECONNRESET))
            return fail(Errc::unavailable, "the other side closed the connection");
        if (written < 0)
            return fail_errno("write", errno);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return {};
}

Result<void> read_exactly(int fd, MutableByteView bytes) {
    while (!bytes.empty()) {
        const auto got = ::read(fd, bytes.data(), bytes.size());
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return fail(Errc::timeout, "no answer in time");
        }
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return fail(Errc::unavailable, "the other side closed the connection");
        if (got < 0)
            return fail_errno("read", errno);
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

Result<Bytes> read_file(const char* path, std::size_t limit) {
    const Fd fd(::open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd.valid() && errno == ENOENT)
        return fail(Errc::not_found, std::string(path));
    if (!fd.valid())
        return fail_errno(path, errno);
    Bytes bytes(limit + 1);
    std::size_t size = 0;
    while (size <= limit) {
        const auto got = ::read(fd.get(), bytes.data() + size, bytes.size() - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(path, errno);
        if (got == 0)
            break;
        size += static_cast<std::size_t>(got);
    }
    if (size > limit)
        return fail(Errc::too_large, std::string(path) + " is too large");
    bytes.resize(size);
    return bytes;
}

}  // namespace vtpm
