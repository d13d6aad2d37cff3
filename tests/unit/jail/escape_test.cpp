// Programs that must die. Each test confines a child exactly as vtpm-engine confines itself, with
// its own allow list, lets it try one thing, and looks at how it ended. Needs root, as the engine
// does.
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>

#include "allowed_calls.h"
#include "seat.h"
#include "vtpm/base/fd.h"
#include "vtpm/jail/confine.h"
#include "vtpm/jail/harden.h"
#include "vtpm/jail/syscall_filter.h"

using namespace vtpm;

namespace {

constexpr uid_t jail_uid = 0x70000000U + 77;
constexpr int survived = 42;
constexpr int could_not_confine = 43;

Result<void> confine(int bell) {
    const std::array keep = {bell};
    VTPM_CHECK(jail::close_descriptors_except(keep));
    VTPM_CHECK(jail::empty_namespaces());
    VTPM_CHECK(jail::limit_resources(64UL << 20));
    VTPM_CHECK(jail::become_user(jail_uid, jail_uid));
    VTPM_CHECK(jail::forbid_core_dumps());
    return jail::forbid_new_privileges();
}

// Runs `attempt` in a jailed child; its exit status as waitpid gives it. Without the filter, what
// is left (user, namespaces, limits) is tried alone.
int run_jailed(const std::function<void(int bell)>& attempt, bool with_filter = true) {
    const pid_t child = ::fork();
    if (child == 0) {
        const int bell = ::eventfd(0, 0);
        if (!confine(bell))
            ::_exit(could_not_confine);
        const auto calls = engine_program::allowed_calls(bell);
        if (with_filter && !jail::install_filter(calls))
            ::_exit(could_not_confine);
        attempt(bell);
        ::_exit(survived);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status;
}

bool killed_by_filter(int status) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
bool survives(int status) {
    return WIFEXITED(status) && WEXITSTATUS(status) == survived;
}

struct Escape {
    const char* name;
    std::function<void(int)> attempt;
};

const std::vector<Escape>& escapes() {
    static const std::vector<Escape> list = {
        {"open a file", [](int) { ::open("/etc/passwd", O_RDONLY); }},
        {"openat2", [](int) { ::syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0); }},
        {"make a socket", [](int) { ::socket(AF_UNIX, SOCK_STREAM, 0); }},
        {"connect", [](int bell) { ::connect(bell, nullptr, 0); }},
        {"send a descriptor", [](int bell) { ::sendmsg(bell, nullptr, 0); }},
        {"receive a descriptor from another than vtpmd",
         [](int) { ::recvmsg(engine_program::Seat::manager_fd, nullptr, 0); }},
        {"exec", [](int) { ::execl("/bin/true", "true", nullptr); }},
        {"fork", [](int) { ::fork(); }},
        {"clone3", [](int) { ::syscall(SYS_clone3, nullptr, 0); }},
        {"ptrace", [](int) { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
        {"kill", [](int) { ::kill(1, SIGTERM); }},
        {"tgkill with another signal", [](int) { ::syscall(SYS_tgkill, 1, 1, SIGKILL); }},
        {"read another's memory", [](int) { ::syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0); }},
        {"executable memory by mmap",
         [](int) {
             ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         }},
        {"executable memory by mprotect",
         [](int) {
             void* page =
                 ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
             ::mprotect(page, 4096, PROT_READ | PROT_EXEC);
         }},
        {"shared memory",
         [](int) {
             ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
         }},
        {"a futex that lends a priority",
         [](int) { ::syscall(SYS_futex, nullptr, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0); }},
        {"advice about memory", [](int) { ::madvise(nullptr, 4096, MADV_HUGEPAGE); }},
        {"map a file", [](int bell) { ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, bell, 0); }},
        {"an ioctl that is not notify", [](int bell) { ::ioctl(bell, 0x44500, nullptr); }},
        {"notify on another descriptor",
         [](int) { ::ioctl(2, _IOC(_IOC_NONE, 'E', 4, 4), nullptr); }},
        {"io_uring", [](int) { ::syscall(SYS_io_uring_setup, 1, nullptr); }},
        {"userfaultfd", [](int) { ::syscall(SYS_userfaultfd, 0); }},
        {"bpf", [](int) { ::syscall(SYS_bpf, BPF_MAP_CREATE, nullptr, 0); }},
        {"keyctl", [](int) { ::syscall(SYS_keyctl, 0, 0, 0, 0, 0); }},
        {"memfd", [](int) { ::syscall(SYS_memfd_create, "x", 0); }},
        {"setuid", [](int) { ::syscall(SYS_setuid, 0); }},
        {"unshare", [](int) { ::unshare(CLONE_NEWUSER); }},
        {"mount", [](int) { ::syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr); }},
        {"prctl", [](int) { ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
        {"raise a limit", [](int) { ::syscall(SYS_prlimit64, 0, 0, nullptr, nullptr); }},
        {"duplicate a descriptor", [](int bell) { ::dup(bell); }},
        {"a 32-bit system call",
         [](int) {
#ifdef __x86_64__
             asm volatile("int $0x80" : : "a"(20) : "memory");
#endif
         }},
    };
    return list;
}

}  // namespace

TEST_CASE("what the engine needs to do survives") {
    CHECK(survives(run_jailed([](int bell) {
        std::uint64_t value = 1;
        (void)!::write(bell, &value, sizeof(value));
        (void)!::read(bell, &value, sizeof(value));
        std::vector<std::vector<char>> memory;
        for (int i = 0; i < 100; ++i)
            memory.emplace_back(100'000 * (i % 7 + 1), 'x');
    })));
}

TEST_CASE("every door but the needed ones is shut") {
    for (const auto& escape : escapes()) {
        INFO(escape.name);
        CHECK(killed_by_filter(run_jailed(escape.attempt)));
    }
}

// The same things must fail, not kill, when only the filter is missing: no layer leans on another.
TEST_CASE("without the filter the other walls stand") {
    struct Wall {
        const char* name;
        std::function<bool()> holds;
    };
    const std::vector<Wall> walls = {
        {"no files", [] { return ::open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT; }},
        {"no proc", [] { return ::access("/proc/self", F_OK) != 0; }},
        {"nothing can be made", [] { return ::open("/x", O_WRONLY | O_CREAT, 0600) < 0; }},
        {"not root", [] { return ::getuid() == jail_uid && ::setuid(0) != 0 && ::setgid(0) != 0; }},
        {"no capability in a new user namespace's parent",
         [] { return ::syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr) != 0; }},
        {"no network",
         [] {
             Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
             return !socket.valid() || ::connect(socket.get(), nullptr, 0) != 0;
         }},
        {"not dumpable", [] { return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0; }},
        {"no new privileges", [] { return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1; }},
        {"no foreign descriptor",
         [] { return ::fcntl(0, F_GETFD) < 0 && ::fcntl(1, F_GETFD) < 0; }},
        {"memory is bounded",
         [] {
             return ::mmap(nullptr, 256UL << 20, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
         }},
        {"address space is bounded",
         [] {
             return ::mmap(nullptr, 1UL << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                    MAP_FAILED;
         }},
        {"processes are bounded",
         [] {
             for (int children = 0; children < 8; ++children) {
                 const pid_t child = ::fork();
                 if (child < 0)
                     return true;
                 if (child == 0) {
                     ::close(STDERR_FILENO);  // for whoever waits for its end
                     ::sleep(1);
                     ::_exit(0);
                 }
             }
             return false;
         }},
        {"capability sets are empty",
         [] {
             for (int cap = 0; cap < 40; ++cap) {
                 if (::prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
                     return false;
             }
             return true;
         }},
    };
    for (const auto& wall : walls) {
        INFO(wall.name);
        CHECK(survives(run_jailed(
            [&](int) {
                if (!wall.holds())
                    ::_exit(1);
            },
            false)));
    }
}

TEST_CASE("a mistyped call name is an error, not a hole") {
    const std::array calls = {jail::AllowedCall{"raed", "a typing mistake"}};
    CHECK_FALSE(jail::install_filter(calls));
}

TEST_CASE("root cannot be the jail's user") {
    CHECK_FALSE(jail::become_user(0, 0));
}
