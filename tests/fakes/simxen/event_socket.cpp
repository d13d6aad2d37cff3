#include "event_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "machine.h"

namespace simxen {

namespace {

bool address_of(const std::string& name, sockaddr_un& address) {
    const auto path = path_of("sockets/" + name);
    if (name.empty() || path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return true;
}

const sockaddr* generic(const sockaddr_un& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

EventSocket::EventSocket()
    : name_(random_name()), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address;
    if (fd_ >= 0 && address_of(name_, address) &&
        ::bind(fd_, generic(address), sizeof address) == 0) {
        return;
    }
    if (fd_ >= 0)
        ::close(fd_);
    fd_ = -1;
}

// A connected socket may be closed inside a jail that knows no unlink: its name stays behind.
EventSocket::~EventSocket() {
    if (fd_ >= 0)
        ::close(fd_);
    if (!connected_)
        ::unlink(path_of("sockets/" + name_).c_str());
}

bool EventSocket::connect_to(const std::string& name) {
    sockaddr_un address;
    connected_ = address_of(name, address) && ::connect(fd_, generic(address), sizeof address) == 0;
    return connected_;
}

bool EventSocket::send(const std::string& name, std::uint32_t port) const {
    sockaddr_un address;
    if (!address_of(name, address))
        return false;
    const auto sent =
        ::sendto(fd_, &port, sizeof port, MSG_NOSIGNAL, generic(address), sizeof address);
    return sent >= 0 || errno == EAGAIN;
}

void EventSocket::write(std::uint32_t port) const {
    // Not send(): the jail of vtpm-engine knows write only. Nobody there is no error in Xen.
    (void)!::write(fd_, &port, sizeof port);
}

std::int64_t EventSocket::read() const {
    std::uint32_t port = 0;
    if (::read(fd_, &port, sizeof port) != sizeof port)
        return -1;
    return port;
}

bool EventSocket::alive(const std::string& name) {
    const int probe = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address;
    const bool refused =
        !address_of(name, address) || (::connect(probe, generic(address), sizeof address) != 0 &&
                                       (errno == ECONNREFUSED || errno == ENOENT));
    ::close(probe);
    return !refused;
}

}  // namespace simxen
