#include "succession.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "vtpm/base/descriptor_message.h"

namespace vtpm::front {
namespace {

using Clock = std::chrono::steady_clock;

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(Errc::invalid_argument, path + " is too long for a socket");
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

// Non-blocking: a connect() would wait without end for a holder that takes nobody any more.
Result<Fd> new_socket() {
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid())
        return fail_errno("socket", errno);
    return socket;
}

Result<bool> connected(const Fd& socket, const sockaddr_un& address) {
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return true;
    if (errno == ENOENT || errno == ECONNREFUSED)
        return false;
    if (errno == EAGAIN)
        return fail(Errc::in_use, "others wait for the vtpm-front that serves this device");
    return fail_errno("connect", errno);
}

// The directory is root's, so this is a second look.
bool is_root(const Fd& socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

Result<bool> readable(const Fd& socket, std::chrono::milliseconds patience) {
    const auto deadline = Clock::now() + patience;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd event{socket.get(), POLLIN, 0};
        const int count = ::poll(&event, 1, static_cast<int>(std::max(left.count(), 0L)));
        if (count >= 0)
            return count > 0;
        if (errno != EINTR)
            return fail_errno("poll", errno);
    }
}

}  // namespace

Result<Testator> Testator::listen(const std::string& path) {
    VTPM_TRY(const auto address, address_of(path));
    const auto directory = path.substr(0, path.find_last_of('/'));
    if (::mkdir(directory.c_str(), S_IRWXU) != 0 && errno != EEXIST)
        return fail_errno(directory, errno);
    (void)::unlink(path.c_str());
    VTPM_TRY(Fd listener, new_socket());
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(path, errno);
    if (::listen(listener.get(), 1) != 0)
        return fail_errno(path, errno);
    return Testator(std::move(listener));
}

Result<std::optional<Fd>> Testator::accept() {
    Fd heir(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!heir.valid() && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
        return std::nullopt;
    if (!heir.valid())
        return fail_errno("accept", errno);
    if (!is_root(heir))
        return std::nullopt;
    return std::optional(std::move(heir));
}

Result<bool> bequeath(const Fd& heir, int descriptor, std::chrono::milliseconds patience) {
    std::array<std::uint8_t, 1> byte{};
    DescriptorMessage message(byte, descriptor);
    if (::sendmsg(heir.get(), message.header(), MSG_NOSIGNAL) < 0)
        return false;
    VTPM_TRY(const bool answered, readable(heir, patience));
    return answered && ::recv(heir.get(), byte.data(), byte.size(), 0) == 1;
}

Result<std::optional<Inheritance>> inherit(const std::string& path,
                                           std::chrono::milliseconds patience) {
    VTPM_TRY(const auto address, address_of(path));
    VTPM_TRY(Fd holder, new_socket());
    VTPM_TRY(const bool there, connected(holder, address));
    if (!there)
        return std::nullopt;
    if (!is_root(holder))
        return fail(Errc::permission, path + " is not root's");
    VTPM_TRY(const bool given, readable(holder, patience));
    if (!given)
        return fail(Errc::timeout, "the vtpm-front that serves this device does not let it go");
    std::array<std::uint8_t, 1> byte{};
    DescriptorMessage message(byte, -1);
    if (::recvmsg(holder.get(), message.header(), MSG_CMSG_CLOEXEC) != 1)
        return fail(Errc::unavailable, "the vtpm-front that serves this device has ended");
    Fd chip = message.take_received();
    if (!chip.valid())
        return fail(Errc::malformed, "the vtpm-front that serves this device gave no TPM");
    return std::optional(Inheritance{std::move(chip), std::move(holder)});
}

Result<void> confirm(const Inheritance& inheritance) {
    const std::uint8_t byte = 0;
    if (::send(inheritance.holder.get(), &byte, 1, MSG_NOSIGNAL) != 1)
        return fail_errno("telling the vtpm-front before us", errno);
    return {};
}

}  // namespace vtpm::front
