#include "listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "admin_session.h"
#include "vtpm/base/log.h"

namespace vtpm::manager {

Listener::Listener(boost::asio::io_context& loop, Fd listening, Manager& manager)
    : acceptor_(loop, boost::asio::local::stream_protocol(), listening.release()),
      pause_(loop),
      manager_(manager) {}

void Listener::accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, Socket peer) {
        if (error == boost::asio::error::operation_aborted)
            return;
        if (error) {
            // Out of descriptors, most likely: trying again at once would spin.
            spdlog::warn("accepting a connection failed: {}", error.message());
            pause_.expires_after(std::chrono::milliseconds(200));
            pause_.async_wait([this](const boost::system::error_code& stopped) {
                if (!stopped)
                    accept();
            });
            return;
        }
        if (may_ask(peer))
            std::make_shared<AdminSession>(manager_, std::move(peer))->start();
        accept();
    });
}

bool Listener::may_ask(Socket& peer) {
    ucred who{};
    socklen_t size = sizeof(who);
    if (::getsockopt(peer.native_handle(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
        return false;
    if (who.uid == 0 || who.uid == ::geteuid())
        return true;
    spdlog::warn("refused a connection of uid {} (pid {})", who.uid, who.pid);
    return false;
}

Result<Fd> listening_socket(Fd inherited, const std::string& path) {
    if (inherited.valid())
        return inherited;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail(Errc::invalid_argument, "socket path too long: " + path);
    }
    std::copy(path.begin(), path.end(), std::begin(address.sun_path));
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid())
        return fail_errno("socket", errno);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return fail_errno(path, errno);
    const mode_t before = ::umask(0177);
    const int bound =
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    const int why = errno;
    ::umask(before);
    if (bound != 0)
        return fail_errno(path, why);
    if (::listen(socket.get(), SOMAXCONN) != 0)
        return fail_errno(path, errno);
    return socket;
}

}  // namespace vtpm::manager
