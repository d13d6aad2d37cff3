#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "escapes.h"

namespace vtpm::drill {
namespace {

constexpr std::size_t page = 4096;

void* map(int protection, int flags) {
    return ::mmap(nullptr, page, protection, flags, -1, 0);
}

std::string mapped(const void* memory) {
    return refused(memory == MAP_FAILED ? -1 : 0, "memory");
}

std::string made_executable(Scene&) {
    void* const memory = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    return refused(::mprotect(memory, page, PROT_READ | PROT_EXEC), "code of its own");
}

std::string system_call(long number) {
    return refused(::syscall(number, 0, 0, 0, 0, 0, 0), "the call");
}

// By the 32-bit gate, where other numbers have other meanings.
std::string call_32_bit(Scene&) {
#ifdef __x86_64__
    long result = 20;  // getpid there
    asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return refused(result, "the call");
#else
    return system_call(-1);
#endif
}

std::string raise_limits(Scene&) {
    const rlimit more{RLIM_INFINITY, RLIM_INFINITY};
    return refused(::setrlimit(RLIMIT_DATA, &more), "no limit");
}

std::string set_priority(Scene&) {
    const sched_param first{50};
    return refused(::sched_setscheduler(0, SCHED_FIFO, &first), "real time");
}

std::string take_capabilities(Scene&) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    if (::syscall(SYS_capget, &header, data) != 0 || (data[0].permitted | data[1].permitted) != 0)
        return "ESCAPED, capabilities that were left";
    data[0] = {1U << CAP_SETUID, 1U << CAP_SETUID, 0};
    return refused(::syscall(SYS_capset, &header, data), "capabilities");
}

std::string type_for_terminal(Scene&) {
    char letter = 'x';
    return refused(::ioctl(STDERR_FILENO, TIOCSTI, &letter), "typed");
}

const Escape list[] = {
    {"setuid", "become root",
     [](Scene&) { return refused(::syscall(SYS_setresuid, 0, 0, 0), "root"); }, Filter::one_of_two},
    {"setgroups", "join root's groups",
     [](Scene&) { return refused(::syscall(SYS_setgroups, 0, nullptr), "groups"); },
     Filter::one_of_two},
    {"capset", "take capabilities back", take_capabilities, Filter::one_of_two},
    {"chroot", "change the root directory", [](Scene&) { return refused(::chroot("/"), "a root"); },
     Filter::one_of_two},
    {"namespace", "leave its namespaces",
     [](Scene&) { return refused(::unshare(CLONE_NEWNS | CLONE_NEWPID), "namespaces"); },
     Filter::one_of_two},
    {"user-namespace", "make a user namespace, to be root in",
     [](Scene&) { return refused(::unshare(CLONE_NEWUSER), "a user namespace"); }},
    {"dumpable", "let itself be looked into again",
     [](Scene&) { return refused(::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable"); }},
    {"limits", "raise its limits", raise_limits, Filter::one_of_two},
    {"priority", "go before everybody else", set_priority, Filter::one_of_two},
    {"clock", "set the clock",
     [](Scene&) {
         timeval now{};  // no harm is meant
         ::gettimeofday(&now, nullptr);
         return refused(::settimeofday(&now, nullptr), "set");
     },
     Filter::one_of_two},
    {"hostname", "name the host", [](Scene&) { return refused(::sethostname("", 0), "named"); },
     Filter::one_of_two},
    {"module", "load a module", [](Scene&) { return system_call(SYS_init_module); }},
    {"reboot", "switch the host off",
     [](Scene&) { return refused(::syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0), "off"); },
     Filter::one_of_two},
    {"exec-map", "map executable memory",
     [](Scene&) {
         return mapped(map(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS));
     }},
    {"exec-protect", "make memory executable", made_executable},
    {"memfd", "make a file in memory, to run or to map",
     [](Scene&) {
         return refused(::syscall(SYS_memfd_create, "x", MFD_ALLOW_SEALING), "a memfd");
     }},
    {"secretmem", "make memory that nobody can look into",
     [](Scene&) { return system_call(SYS_memfd_secret); }},
    {"io-uring", "io_uring", [](Scene&) { return system_call(SYS_io_uring_setup); }},
    {"userfaultfd", "userfaultfd", [](Scene&) { return system_call(SYS_userfaultfd); }},
    {"bpf", "bpf", [](Scene&) { return system_call(SYS_bpf); }},
    {"perf", "perf_event_open", [](Scene&) { return system_call(SYS_perf_event_open); }},
    {"keyctl", "keyctl", [](Scene&) { return system_call(SYS_keyctl); }},
    {"add-key", "add_key", [](Scene&) { return system_call(SYS_add_key); }},
    {"pi-futex", "a priority-inheriting futex",
     [](Scene&) { return refused(::syscall(SYS_futex, nullptr, 6, 0, nullptr, nullptr, 0), ""); }},
    {"terminal", "type into somebody's terminal", type_for_terminal, Filter::one_of_two},
    {"32-bit", "a system call through the 32-bit gate", call_32_bit},
    {"x32", "a system call of the x32 kind",
     [](Scene&) { return system_call(0x40000000L | SYS_open); }},
};

}  // namespace

std::span<const Escape> powers() {
    return list;
}

}  // namespace vtpm::drill
