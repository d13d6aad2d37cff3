#include "tpm12_link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

#include "chip_errors.h"

namespace vtpm::chip::tpm12 {
namespace {

constexpr std::string_view device_prefix = "device:";
constexpr std::string_view socket_prefix = "swtpm:path=";
// To make an owner's keys takes the slowest chips more than a minute.
constexpr int patience_milliseconds = 180'000;

Result<Fd> open_device(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid())
        return fail_device(path, errno);
    return fd;
}

Result<Fd> open_socket(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(Errc::invalid_argument, "the path of a socket is too long: " + path);
    path.copy(address.sun_path, path.size());
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid())
        return fail_errno("socket", errno);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_device(path, errno);
    return fd;
}

Result<void> wait_for_answer(int fd) {
    pollfd about{fd, POLLIN, 0};
    for (;;) {
        const int ready = ::poll(&about, 1, patience_milliseconds);
        if (ready > 0)
            return {};
        if (ready == 0)
            return fail(Errc::unavailable, "the chip does not answer");
        if (errno != EINTR)
            return fail_errno("poll", errno);
    }
}

// A swtpm that has gone away must not end us (SIGPIPE).
Result<void> send_whole(int fd, ByteView command) {
    while (!command.empty()) {
        ssize_t part = ::send(fd, command.data(), command.size(), MSG_NOSIGNAL);
        if (part < 0 && errno == ENOTSOCK)
            part = ::write(fd, command.data(), command.size());
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return fail(Errc::unavailable, "the chip was lost");
        command = command.subspan(static_cast<std::size_t>(part));
    }
    return {};
}

}  // namespace

Result<Tpm12Link> Tpm12Link::open(const std::string& tcti) {
    if (tcti.starts_with(device_prefix)) {
        VTPM_TRY(Fd fd, open_device(tcti.substr(device_prefix.size())));
        return Tpm12Link(std::move(fd));
    }
    if (tcti.starts_with(socket_prefix)) {
        VTPM_TRY(Fd fd, open_socket(tcti.substr(socket_prefix.size())));
        return Tpm12Link(std::move(fd));
    }
    return fail(Errc::unsupported,
                "a TPM 1.2 is reached by device:PATH or swtpm:path=PATH, not by " + tcti);
}

// A device gives an answer whole, a socket perhaps in parts.
Result<SecretBytes> Tpm12Link::exchange(ByteView command) {
    VTPM_CHECK(send_whole(fd_.get(), command));
    SecretBytes answer(max_message);
    std::size_t have = 0;
    std::size_t wanted = header_size;
    while (have < wanted) {
        VTPM_CHECK(wait_for_answer(fd_.get()));
        const ssize_t part = ::read(fd_.get(), answer.span().data() + have, answer.size() - have);
        if (part < 0 && errno == EINTR)
            continue;
        if (part <= 0)
            return fail(Errc::unavailable, "the chip was lost");
        have += static_cast<std::size_t>(part);
        if (have < header_size)
            continue;
        ByteReader reader(answer.view());
        VTPM_CHECK(reader.u16());
        VTPM_TRY(const auto size, reader.u32());
        if (size < header_size || size > max_message || size < have)
            return fail(Errc::malformed, "the chip's answer has an impossible size");
        wanted = size;
    }
    answer.shrink(have);
    return answer;
}

}  // namespace vtpm::chip::tpm12
