#include "vtpm/jail/sanitizer.h"

#include <unistd.h>

#include <array>

namespace vtpm::jail {

std::span<const AllowedCall> calls_of_sanitizers() {
    if constexpr (!sanitized)
        return {};
    // In the empty root, without capabilities, and of no use to a test that says what the filter
    // kills for: those are not part of the sanitizers' builds.
    static const std::array calls = {
        AllowedCall{"mmap", "the runtime's own memory, at places that it chooses"},
        AllowedCall{"madvise", "a shadow's pages are given back, and kept out of core files"},
        AllowedCall{"sigaltstack", "each thread has one, for reports of a stack overflow"},
        AllowedCall{"sched_yield", "the runtime's locks"},
        AllowedCall{"clock_nanosleep", "the thread sanitizer's own thread"},
        AllowedCall{"nanosleep", "the same; and a second report waits for the end of the first"},
        AllowedCall{"rt_sigaction", "a report of a fault ends with the default action"},
        AllowedCall{"openat", "a report looks for the map of its process, and finds none"},
        AllowedCall{"open", "the same"},
        AllowedCall{"readlink", "a report looks for the name of its program"},
        AllowedCall{"readlinkat", "the same"},
        AllowedCall{"stat", "the same"},
        AllowedCall{"newfstatat", "the same"},
        AllowedCall{"fstat", "the same"},
        AllowedCall{"prctl", "the name of the thread that is reported"},
        AllowedCall{"getrlimit", "the bounds of the main thread's stack"},
        AllowedCall{"prlimit64", "the same"},
        AllowedCall{"sched_getaffinity", "the same, in the C library"},
        AllowedCall{"fcntl", "whether there is somebody to report to"},
        AllowedCall{"dup", "the same"},
        AllowedCall{"pipe", "whether memory can be read, before a report reads it"},
        AllowedCall{"pipe2", "the same"},
        AllowedCall{"ioctl", "whether a report goes to a terminal",
                    ArgumentMatch{0, ~std::uint64_t{0}, STDERR_FILENO}},
        AllowedCall{"uname", "a report names the system"},
        AllowedCall{"sysinfo", "how much memory there is"},
    };
    return calls;
}

}  // namespace vtpm::jail
