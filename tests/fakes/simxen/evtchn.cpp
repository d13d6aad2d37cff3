// libxenevtchn.so.1: an event channel handle is a datagram socket, an event a datagram.
extern "C" {
#include <xenevtchn.h>
}

#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "event_socket.h"
#include "machine.h"

namespace {

std::string port_link(std::uint32_t domid, std::uint32_t port) {
    return "ports/" + std::to_string(domid) + "." + std::to_string(port);
}

// Guests get their lowest free port, so that numbers come again soon. Those of the binding side
// never matter to anybody, and stay behind when a jailed process ends: high ones, far apart.
constexpr std::uint32_t first_open_port = 8;
constexpr std::uint32_t first_bound_port = 1U << 20;
constexpr std::uint32_t ports_tried = 1U << 16;

int failed(int error_number) {
    errno = error_number;
    return -1;
}

}  // namespace

struct xenevtchn_handle {
    std::uint32_t self = simxen::own_domain();
    simxen::EventSocket socket;
    std::optional<std::uint32_t> restricted_to;
    std::uint32_t peer_port = 0;                 // of the one peer of a connected socket
    std::map<std::uint32_t, std::string> peers;  // local port: "<domid>.<port>"; empty: not known

    bool may_bind(std::uint32_t domid) const { return !restricted_to || *restricted_to == domid; }

    int allocate(std::uint32_t first) {
        for (std::uint32_t port = first; port < first + ports_tried; ++port) {
            const auto link = simxen::path_of(port_link(self, port));
            if (::symlink(socket.name().c_str(), link.c_str()) == 0)
                return static_cast<int>(port);
            if (errno != EEXIST)
                return -1;
        }
        return failed(ENOSPC);
    }
};

namespace {

// "<domid>.<port>" as two numbers; the port is what the receiver calls it.
std::uint32_t port_of(const std::string& peer) {
    return static_cast<std::uint32_t>(std::stoul(peer.substr(peer.find('.') + 1)));
}

bool deliver(const xenevtchn_handle& handle, const std::string& peer) {
    if (peer.empty())
        return false;
    return handle.socket.send(simxen::link_at("ports/" + peer), port_of(peer));
}

}  // namespace

extern "C" {

xenevtchn_handle* xenevtchn_open(xentoollog_logger*, unsigned) {
    auto handle = std::make_unique<xenevtchn_handle>();
    return handle->socket.fd() < 0 ? nullptr : handle.release();
}

xenevtchn_handle* xenevtchn_fdopen(xentoollog_logger*, int, unsigned) {
    errno = ENOTSUP;
    return nullptr;
}

int xenevtchn_close(xenevtchn_handle* handle) {
    if (!handle->socket.connected()) {
        for (const auto& [port, peer] : handle->peers)
            xenevtchn_unbind(handle, port);
    }
    delete handle;
    return 0;
}

int xenevtchn_fd(xenevtchn_handle* handle) {
    return handle->socket.fd();
}

int xenevtchn_restrict(xenevtchn_handle* handle, domid_t domid) {
    if (handle->restricted_to)
        return failed(EACCES);
    handle->restricted_to = domid;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle* handle, uint32_t domid) {
    if (!handle->may_bind(domid))
        return failed(EACCES);
    const int port = handle->allocate(first_open_port);
    if (port >= 0)
        handle->peers[static_cast<std::uint32_t>(port)] = "";
    return port;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* handle, uint32_t domid,
                                                     evtchn_port_t remote_port) {
    if (!handle->may_bind(domid))
        return failed(EACCES);
    const auto remote = port_link(domid, remote_port);
    const auto remote_socket = simxen::link_at(remote);
    if (remote_socket.empty())
        return failed(EINVAL);
    const auto bound_to = simxen::link_at(remote + ".peer");
    if (!bound_to.empty() && simxen::EventSocket::alive(simxen::link_at("ports/" + bound_to)))
        return failed(EINVAL);

    const auto spread =
        static_cast<std::uint32_t>(std::stoul(simxen::random_name().substr(8), nullptr, 16));
    const int port = handle->allocate(first_bound_port + spread % (1U << 28));
    if (port < 0)
        return -1;
    const auto local = std::to_string(handle->self) + "." + std::to_string(port);
    const auto peer_link = simxen::path_of(remote + ".peer");
    ::unlink(peer_link.c_str());
    if (::symlink(local.c_str(), peer_link.c_str()) != 0)
        return -1;

    simxen::EventSocket bell;
    bell.send(handle->socket.name(), static_cast<std::uint32_t>(port));
    handle->peers[static_cast<std::uint32_t>(port)] = remote.substr(remote.find('/') + 1);
    handle->peer_port = remote_port;
    // xenstored has many ports on one handle, and can do without a jail.
    if (handle->peers.size() == 1)
        handle->socket.connect_to(remote_socket);
    return port;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle* handle, unsigned int virq) {
    const int port = handle->allocate(first_open_port);
    if (port < 0)
        return -1;
    handle->peers[static_cast<std::uint32_t>(port)] = "";
    const auto link = simxen::path_of("ports/virq" + std::to_string(virq));
    ::unlink(link.c_str());
    return ::symlink((handle->socket.name() + "/" + std::to_string(port)).c_str(), link.c_str()) ==
                   0
               ? port
               : -1;
}

int xenevtchn_unbind(xenevtchn_handle* handle, evtchn_port_t port) {
    if (handle->socket.connected())
        return 0;
    ::unlink(simxen::path_of(port_link(handle->self, port)).c_str());
    ::unlink(simxen::path_of(port_link(handle->self, port) + ".peer").c_str());
    return 0;
}

int xenevtchn_notify(xenevtchn_handle* handle, evtchn_port_t port) {
    if (handle->socket.connected()) {
        handle->socket.write(handle->peer_port);
        return 0;
    }
    auto known = handle->peers.find(port);
    if (known == handle->peers.end())
        return failed(EINVAL);
    if (deliver(*handle, known->second))
        return 0;
    // The peer is a new one, or there is none: Xen drops events of unbound ports without a word.
    const auto bound = simxen::link_at(port_link(handle->self, port) + ".peer");
    if (!bound.empty())
        known->second = bound;
    deliver(*handle, known->second);
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* handle) {
    return static_cast<xenevtchn_port_or_error_t>(handle->socket.read());
}

int xenevtchn_unmask(xenevtchn_handle*, evtchn_port_t) {
    return 0;
}

}  // extern "C"
