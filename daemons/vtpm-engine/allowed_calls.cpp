#include "allowed_calls.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "confinement.h"

namespace vtpm::engine_program {
namespace {

// IOCTL_EVTCHN_NOTIFY of Linux's include/uapi/xen/evtchn.h: its argument is one unsigned int.
constexpr std::uint64_t evtchn_notify = _IOC(_IOC_NONE, 'E', 4, sizeof(unsigned int));

constexpr jail::ArgumentMatch not_executable{2, PROT_EXEC, 0};
// Shared memory would not count for RLIMIT_DATA.
constexpr jail::ArgumentMatch anonymous{3, MAP_TYPE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS};

constexpr std::uint64_t every_bit = ~std::uint64_t{0};

constexpr jail::ArgumentMatch futex_operation(std::uint64_t operation) {
    constexpr std::uint64_t command = ~std::uint64_t{FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME};
    return {1, command & 0xffffffff, operation};
}

}  // namespace

std::vector<jail::AllowedCall> allowed_calls() {
    return {
        {"read", "event channel or data channel, vtpmd, vtpmmgrd, the watcher's eventfd"},
        {"write", "the same, and standard error"},
        {"writev", "frames to vtpmd and vtpmmgrd; standard error through the C library"},
        {"newfstatat",
         "the same: libtpms reports there, always, why it enters failure mode (a path that an "
         "intruder gives leads into an empty root)",
         jail::ArgumentMatch{0, every_bit, STDERR_FILENO},
         jail::ArgumentMatch{3, every_bit, AT_EMPTY_PATH}},
        {"lseek", "the same", jail::ArgumentMatch{0, every_bit, STDERR_FILENO}},
        {"recvmsg", "from vtpmd: its orders, and a channel to the vtpmmgrd that was restarted",
         jail::ArgumentMatch{0, every_bit, doorman_fd}},
        {"poll", "wait for the guest or for vtpmd"},
        {"ppoll", "the same, in another C library"},
        {"restart_syscall", "poll after a stop signal"},
        {"mmap", "malloc: private anonymous memory, never executable", not_executable, anonymous},
        {"mprotect", "malloc: a second thread's heap grows, never executable", not_executable},
        {"munmap", "malloc, and letting go of the ring page"},
        {"mremap", "malloc: large buffers grow"},
        {"madvise", "malloc: giving memory back",
         jail::ArgumentMatch{2, every_bit & 0xffffffff, MADV_DONTNEED}},
        {"brk", "malloc"},
        {"close", "vtpmmgrd's channel is replaced or given up"},
        {"futex", "the two threads wait for each other", futex_operation(FUTEX_WAIT)},
        {"futex", "the same, with a time or a condition", futex_operation(FUTEX_WAIT_BITSET)},
        {"futex", "and wake each other", futex_operation(FUTEX_WAKE)},
        {"rseq", "thread start and end in the C library"},
        {"getrandom", "OpenSSL and libtpms draw random numbers"},
        {"clock_gettime", "the TPM's clock, where the vDSO has no fast path (Xen PV)"},
        {"getpid", "OpenSSL notices forks"},
        {"gettid", "abort in the C library names its thread"},
        {"tgkill", "abort: end at once when the C library finds its heap broken",
         jail::ArgumentMatch{2, every_bit, 6}},
        {"rt_sigprocmask", "abort, and thread end"},
        {"rt_sigreturn", "return from a signal"},
        {"exit", "the watcher thread ends"},
        {"exit_group", "the engine ends"},
    };
}

std::vector<jail::AllowedCall> allowed_calls(int event_channel) {
    const auto port = static_cast<std::uint64_t>(event_channel);
    auto calls = allowed_calls();
    calls.push_back({"ioctl", "ring the guest's bell, nothing else",
                     jail::ArgumentMatch{0, every_bit, port},
                     jail::ArgumentMatch{1, every_bit, evtchn_notify}});
    return calls;
}

}  // namespace vtpm::engine_program
