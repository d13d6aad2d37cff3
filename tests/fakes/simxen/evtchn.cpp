// libxenevtchn as vtpm-engine uses it, on a stream socket to the front end: a byte is an event.
//
// One descriptor, open and connected before the engine's jail; inside it only read, write and poll
// are needed. Events coalesce as Xen's do: pending takes all bytes, a full socket is an event that
// is pending already.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "place.h"
extern "C" {
#include <xenevtchn.h>
}

struct xenevtchn_handle {
    int fd;
};

namespace {
constexpr int local_port = 1;  // a handle has one port
}

extern "C" {

xenevtchn_handle* xenevtchn_open(xentoollog_logger*, unsigned) {
    auto* const handle = static_cast<xenevtchn_handle*>(std::calloc(1, sizeof(xenevtchn_handle)));
    if (handle == nullptr)
        return nullptr;
    handle->fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (handle->fd < 0) {
        std::free(handle);
        return nullptr;
    }
    return handle;
}

int xenevtchn_close(xenevtchn_handle* handle) {
    if (handle == nullptr)
        return 0;
    ::close(handle->fd);
    std::free(handle);
    return 0;
}

int xenevtchn_fd(xenevtchn_handle* handle) {
    return handle->fd;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* handle, uint32_t domain,
                                                     evtchn_port_t port) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (!simxen::place(address.sun_path, "port", domain, port))
        return -1;
    if (::connect(handle->fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return -1;
    if (::fcntl(handle->fd, F_SETFL, O_NONBLOCK) != 0)
        return -1;
    return local_port;
}

// The front end of a test is no user of this library.
xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle*, uint32_t) {
    errno = ENOSYS;
    return -1;
}

int xenevtchn_notify(xenevtchn_handle* handle, evtchn_port_t) {
    // Whether the front end is gone, or has not looked yet, is not the hypervisor's business.
    if (::write(handle->fd, "", 1) == 1 || errno == EAGAIN || errno == EPIPE)
        return 0;
    return -1;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* handle) {
    char events[256];
    const auto size = ::read(handle->fd, events, sizeof events);
    if (size > 0 || (size < 0 && errno == EAGAIN))
        return local_port;
    if (size < 0)
        return -1;
    errno = EIO;  // the front end's end of file would be readable for ever
    return -1;
}

int xenevtchn_unmask(xenevtchn_handle*, evtchn_port_t) {
    return 0;
}

int xenevtchn_unbind(xenevtchn_handle*, evtchn_port_t) {
    return 0;
}

int xenevtchn_restrict(xenevtchn_handle*, domid_t) {
    return 0;
}

}  // extern "C"
