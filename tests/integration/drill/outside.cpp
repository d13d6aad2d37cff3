#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "escapes.h"

namespace vtpm::drill {

std::string refused(long result, const char* what) {
    if (result >= 0)
        return std::string("ESCAPED, ") + what;
    return std::string("refused, ") + ::strerrorname_np(errno);
}

namespace {

// The first of them that opens; or how the last one was refused.
std::string open_any(std::initializer_list<std::string> paths, int flags = O_RDONLY) {
    std::string outcome;
    for (const auto& path : paths) {
        outcome = refused(::open(path.c_str(), flags, 0600), path.c_str());
        if (outcome.starts_with("ESCAPED"))
            break;
    }
    return outcome;
}

std::string of(int pid, const char* file) {
    return "/proc/" + std::to_string(pid) + "/" + file;
}

std::string connect_to(int family, const void* address, std::size_t size) {
    const int socket = ::socket(family, SOCK_STREAM, 0);
    if (socket < 0)
        return refused(socket, "");
    return refused(
        ::connect(socket, static_cast<const sockaddr*>(address), static_cast<socklen_t>(size)),
        "connected");
}

std::string connect_to_path(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    return connect_to(AF_UNIX, &address, sizeof(address));
}

std::string connect_to_bait(Scene& scene) {
    const std::string name = bait_socket(scene.directory);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(name.begin(), name.end(), address.sun_path + 1);
    return connect_to(AF_UNIX, &address, offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

std::string connect_to_network() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(22);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect_to(AF_INET, &address, sizeof(address));
}

// Linux's include/uapi/xen/evtchn.h and gntdev.h; the calls on the one descriptor there is.
constexpr unsigned long bind_interdomain = _IOC(_IOC_NONE, 'E', 1, 8);
constexpr unsigned long notify = _IOC(_IOC_NONE, 'E', 4, 4);
constexpr unsigned long map_grant = _IOC(_IOC_NONE, 'G', 0, 24);

std::string on_bell(Scene& scene, unsigned long request) {
    std::uint32_t argument[6] = {1, 5, 0, 0, 0, 0};
    return refused(::ioctl(scene.seat.events().fd(), request, argument), "another's port or page");
}

std::string fork_bomb(Scene&) {
    int children = 0;
    for (; children < 1000; ++children) {
        const auto child = ::fork();
        if (child == 0) {
            for (;;)
                ::pause();
        }
        if (child < 0)
            break;
    }
    if (children == 1000)
        return "ESCAPED, 1000 children";
    return "bounded, " + std::to_string(children) + " children, then " + ::strerrorname_np(errno);
}

const Escape list[] = {
    {"open", "open a file of the host", [](Scene&) { return open_any({"/etc/passwd"}); },
     Filter::one_of_two},
    {"create", "make a file, to fill a disk with",
     [](Scene&) {
         return open_any({"/tmp/x", "/x"}, O_CREAT | O_WRONLY);
     },
     Filter::one_of_two},
    {"environment", "read the environment, arguments and memory of others",
     [](Scene& s) {
         return open_any({of(s.victim, "environ"), of(s.victim, "cmdline"), of(s.victim, "mem"),
                          of(1, "environ"), of(1, "mem")});
     },
     Filter::one_of_two},
    {"sys", "look into /sys and /proc/sys",
     [](Scene&) {
         return open_any({"/sys/kernel", "/proc/sys/kernel/core_pattern"});
     },
     Filter::one_of_two},
    {"devices", "open the memory, the disk, the host's chip, Xen's devices",
     [](Scene&) {
         return open_any({"/dev/mem", "/dev/vda", "/dev/tpm0", "/dev/tpmrm0", "/dev/xen/gntdev",
                          "/dev/xen/privcmd", "/dev/xen/evtchn"},
                         O_RDWR);
     },
     Filter::one_of_two},
    {"mknod", "make a device node for them",
     [](Scene&) { return refused(::mknod("/mem", S_IFCHR | 0600, makedev(1, 1)), "a node"); },
     Filter::one_of_two},
    {"handle", "open a file by its handle",
     [](Scene&) {
         std::uint32_t handle[4] = {8, 1, 0, 0};  // of eight bytes
         return refused(::syscall(SYS_open_by_handle_at, 3, handle, O_RDONLY), "a file");
     }},
    {"mount", "mount something",
     [](Scene&) { return refused(::mount("none", "/", "tmpfs", 0, nullptr), "mounted"); },
     Filter::one_of_two},
    {"manager-socket", "connect to vtpmmgrd's own socket",
     [](Scene& s) { return connect_to_path(s.directory + "/manager"); }, Filter::one_of_two},
    {"xenstore", "connect to xenstored",
     [](Scene& s) { return connect_to_path(s.directory + "/xenstored/socket"); },
     Filter::one_of_two},
    {"abstract", "connect to a socket without a file", connect_to_bait, Filter::one_of_two},
    {"network", "connect over the network", [](Scene&) { return connect_to_network(); },
     Filter::one_of_two},
    {"send-descriptor", "send a descriptor",
     [](Scene& s) { return refused(::sendmsg(s.seat.manager_fd, nullptr, 0), "sent"); }},
    {"receive-descriptor", "receive a descriptor",
     [](Scene& s) { return refused(::recvmsg(s.seat.manager_fd, nullptr, 0), "received"); }},
    {"grant", "map another grant", [](Scene& s) { return on_bell(s, map_grant); },
     Filter::one_of_two},
    {"bind", "bind another event channel", [](Scene& s) { return on_bell(s, bind_interdomain); },
     Filter::one_of_two},
    {"notify", "notify an event channel that is not ours",
     [](Scene& s) { return on_bell(s, notify); }, Filter::one_of_two},
    {"exec", "run a program",
     [](Scene&) { return refused(::execl("/bin/sh", "sh", nullptr), "a shell"); },
     Filter::one_of_two},
    {"fork", "make processes until there is no room", fork_bomb, Filter::one_of_two},
    {"ptrace", "trace another guest's engine",
     [](Scene& s) { return refused(::ptrace(PTRACE_SEIZE, s.victim, nullptr, nullptr), "traced"); },
     Filter::one_of_two},
    {"vm-read", "read another engine's memory",
     [](Scene& s) {
         char byte = 0;
         const iovec here{&byte, 1};
         const iovec there{reinterpret_cast<void*>(0x400000), 1};
         return refused(::process_vm_readv(s.victim, &here, 1, &there, 1, 0), "read");
     },
     Filter::one_of_two},
    {"pidfd", "take a descriptor out of another engine",
     [](Scene& s) { return refused(::syscall(SYS_pidfd_open, s.victim, 0), "a pidfd"); },
     Filter::one_of_two},
    {"kill", "kill another guest's engine",
     [](Scene& s) { return refused(::kill(s.victim, SIGKILL), "killed"); }, Filter::one_of_two},
    {"kill-all", "kill everything there is",
     [](Scene&) { return refused(::kill(-1, SIGKILL), "killed"); }, Filter::one_of_two},
    {"abort-other", "end another engine with the one signal that is allowed",
     [](Scene& s) { return refused(::syscall(SYS_tgkill, s.victim, s.victim, SIGABRT), "killed"); },
     Filter::one_of_two},
    {"sysv", "attach a memory segment of the host",
     [](Scene&) { return refused(::shmget(bait_segment, 0, 0), "a segment"); }, Filter::one_of_two},
};

}  // namespace

std::span<const Escape> outside() {
    return list;
}

}  // namespace vtpm::drill
