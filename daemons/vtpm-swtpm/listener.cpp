#include "listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace vtpm::swtpm {
namespace {

constexpr int backlog = 8;

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path))
        return fail(Errc::invalid_argument, "a socket's path has 1 to 107 bytes: " + path);
    std::copy(path.begin(), path.end(), address.sun_path);
    return address;
}

bool somebody_listens(const sockaddr_un& address) {
    const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
               0 ||
           errno == EAGAIN;
}

}  // namespace

Result<Fd> listen_at(const Address& address) {
    VTPM_TRY(const auto name, address_of(address.path));
    struct stat there {};
    if (::lstat(address.path.c_str(), &there) == 0) {
        if (!S_ISSOCK(there.st_mode))
            return fail(Errc::already_exists, address.path + " is there and is no socket");
        if (somebody_listens(name))
            return fail(Errc::in_use, "somebody listens at " + address.path);
        if (::unlink(address.path.c_str()) != 0)
            return fail_errno(address.path, errno);
    }
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.valid())
        return fail_errno("socket", errno);
    const mode_t mask = ::umask(0177);  // nobody gets in before it has its owner
    const int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name));
    const int why = errno;
    ::umask(mask);
    if (bound != 0)
        return fail_errno(address.path, why);
    if (address.uid || address.gid) {
        const auto uid = address.uid.value_or(static_cast<uid_t>(-1));
        const auto gid = address.gid.value_or(static_cast<gid_t>(-1));
        if (::lchown(address.path.c_str(), uid, gid) != 0)
            return fail_errno(address.path, errno);
    }
    if (::chmod(address.path.c_str(), address.mode) != 0 || ::listen(socket.get(), backlog) != 0)
        return fail_errno(address.path, errno);
    return socket;
}

Fd accept_from(int listener) {
    return Fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

}  // namespace vtpm::swtpm
