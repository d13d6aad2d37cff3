// The engine's jail with libtpms in it, and hostile states: built like what is shipped, without
// sanitizers, from the very sources, so that list and limits are those that ship. (Only the PID
// namespace, which an engine gets from vtpmd, is not there.) Started by fuzz-state, as root.
#include <link.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "allowed_calls.h"
#include "confinement.h"
#include "seat.h"
#include "state_case.h"
#include "state_jail.h"
#include "vtpm/base/fd.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/syscall_filter.h"

using namespace vtpm;
using fuzz::End;

namespace {

constexpr int fuzzer = engine_program::Seat::doorman_fd;
constexpr std::uint32_t uid = 0x7fffff00;  // no domain's engine has it

struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
} libtpms;  // NOLINT: a signal handler's

int find_libtpms(dl_phdr_info* info, std::size_t, void*) {
    if (std::string_view(info->dlpi_name).find("libtpms") == std::string_view::npos)
        return 0;
    libtpms.begin = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        libtpms.end = std::max(libtpms.end, info->dlpi_addr + part.p_vaddr + part.p_memsz);
    }
    return 1;
}

void say(const End& end) {
    if (::write(fuzzer, &end, sizeof end) != sizeof end)
        ::_exit(1);
}

void tell_fault(int, siginfo_t* info, void* context) {
    const auto at = static_cast<std::uint64_t>(
        static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    const bool theirs = at >= libtpms.begin && at < libtpms.end;
    say({End::How::fault, theirs ? 1U : 0U,
         reinterpret_cast<std::uint64_t>(info->si_addr),  // NOLINT
         at - libtpms.begin});
    ::_exit(1);
}

}  // namespace

int main() {
    log::init("fuzz-state-worker");
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};  // as the unit's LimitMEMLOCK
    const bool locks = ::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
    ::dl_iterate_phdr(&find_libtpms, nullptr);
    struct sigaction on_fault {};
    on_fault.sa_sigaction = &tell_fault;
    on_fault.sa_flags = SA_SIGINFO;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL})
        ::sigaction(signal, &on_fault, nullptr);
    const int bell = ::eventfd(0, EFD_CLOEXEC);
    engine_program::confine(uid, {&bell, 1});
    if (!locks)  // in a container: else the jail would be one in which no byte can be had
        ::munlockall();
    required(jail::install_filter(engine_program::allowed_calls(bell)));

    std::uint32_t size = 0;
    while (read_exactly(fuzzer, fuzz::bytes_of(size))) {
        Bytes bytes(size);
        if (!read_exactly(fuzzer, bytes))
            break;
        fuzz::live(fuzz::from_bytes(bytes));
        say({});
    }
    std::_Exit(0);
}
