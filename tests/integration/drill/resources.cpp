#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "escapes.h"

namespace vtpm::drill {
namespace {

constexpr std::size_t mib = 1UL << 20;

std::string bounded(std::size_t count, const char* what) {
    return "bounded, " + std::to_string(count) + " " + what + ", then " + ::strerrorname_np(errno);
}

// Maps pieces, and touches each page if it may, until there is no more.
std::string map_all(std::size_t piece, int protection, int flags, std::size_t too_much) {
    std::size_t total = 0;
    while (total < too_much) {
        void* const memory = ::mmap(nullptr, piece, protection, flags, -1, 0);
        if (memory == MAP_FAILED)
            return bounded(total / mib, "MiB");
        if ((protection & PROT_WRITE) != 0) {
            for (std::size_t at = 0; at < piece; at += 4096)
                static_cast<volatile char*>(memory)[at] = 1;
        }
        total += piece;
    }
    return "ESCAPED, more than " + std::to_string(total / mib) + " MiB";
}

std::string grow_heap(Scene&) {
    std::size_t total = 0;
    for (; total < 256 * mib; total += mib) {
        if (::sbrk(static_cast<std::intptr_t>(mib)) == reinterpret_cast<void*>(-1))
            return bounded(total / mib, "MiB");
    }
    return "ESCAPED, 256 MiB";
}

std::string made_writable(Scene&) {
    std::size_t total = 0;
    for (; total < 256 * mib; total += mib) {
        void* const memory = ::mmap(nullptr, mib, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || ::mprotect(memory, mib, PROT_READ | PROT_WRITE) != 0)
            return bounded(total / mib, "MiB");
    }
    return "ESCAPED, 256 MiB";
}

// noinline, and something after the call: else it is a loop.
[[gnu::noinline]] std::size_t deeper(std::size_t depth) {
    volatile char frame[65536];
    frame[0] = static_cast<char>(depth);
    if (depth == 1024)
        return depth;
    return deeper(depth + 1) + static_cast<std::size_t>(frame[0] == 1);
}

std::string grow_stack(Scene&) {
    return "ESCAPED, " + std::to_string(deeper(0) / 16) + " MiB of stack";
}

std::string look_for_descriptors(Scene& scene) {
    std::string found;
    for (int fd = 0; fd < 4096; ++fd) {
        pollfd one{fd, 0, 0};
        if (::poll(&one, 1, 0) == 0) {
            const char* what = "a stranger";
            if (fd == STDERR_FILENO)
                what = "log";
            if (fd == scene.seat.doorman_fd)
                what = "vtpmd";
            if (fd == scene.seat.manager_fd)
                what = "vtpmmgrd";
            if (fd == scene.seat.events().fd())
                what = "bell";
            if (found.find("own wake-up") == std::string::npos &&
                std::strcmp(what, "a stranger") == 0)
                what = "own wake-up";
            found += (found.empty() ? "bounded, " : " + ") + std::string(what);
        }
    }
    return found.find("stranger") == std::string::npos ? found : "ESCAPED, " + found;
}

std::string duplicate(Scene& scene) {
    for (std::size_t i = 0; i < 4096; ++i) {
        if (::dup(scene.seat.manager_fd) < 0)
            return bounded(i, "descriptors");
    }
    return "ESCAPED, 4096 descriptors";
}

std::string poll_much(Scene&) {
    std::vector<pollfd> many(4096, pollfd{STDERR_FILENO, POLLOUT, 0});
    return refused(::poll(many.data(), many.size(), 0), "4096 at once");
}

// As an emergency, which is shown on every terminal, and with a terminal's own orders.
std::string flood_log(Scene&) {
    constexpr std::string_view line = "<0>\x1b[2J\rvtpmmgrd: the keys are lost\n";
    std::size_t taken = 0;
    constexpr std::size_t lines = 1'000'000;
    for (std::size_t i = 0; i < lines; ++i) {
        if (::write(STDERR_FILENO, line.data(), line.size()) > 0)
            ++taken;
    }
    if (taken > lines / 10)
        return "ESCAPED, " + std::to_string(taken) + " lines";
    return "bounded, " + std::to_string(taken) + " of " + std::to_string(lines) +
           " lines were taken";
}

std::string fill_a_memfd(Scene&) {
    const auto file = static_cast<int>(::syscall(SYS_memfd_create, "x", 0));
    if (file < 0)
        return refused(file, "");
    return refused(::ftruncate(file, 1L << 30), "a gigabyte");
}

const Escape list[] = {
    {"descriptors", "use what descriptors are open", look_for_descriptors, Filter::one_of_two},
    {"duplicate", "make descriptors until there is no room", duplicate, Filter::one_of_two},
    {"poll", "have the kernel look at thousands of descriptors at once", poll_much,
     Filter::one_of_two},
    {"memory", "take memory until there is no more",
     [](Scene&) {
         return map_all(mib, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 256 * mib);
     },
     Filter::one_of_two},
    {"shared-memory", "take shared memory, which no limit of data counts",
     [](Scene&) {
         return map_all(mib, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, 2048 * mib);
     }},
    {"heap", "move the end of the heap", grow_heap, Filter::one_of_two},
    {"made-writable", "map memory to read, and make it writable afterwards", made_writable,
     Filter::one_of_two},
    {"address-space", "fill the page tables",
     [](Scene&) { return map_all(64 * mib, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 1UL << 40); },
     Filter::one_of_two},
    {"stack", "recurse for ever", grow_stack, Filter::one_of_two},
    {"memfd-size", "fill the memory behind a file of its own", fill_a_memfd, Filter::one_of_two},
    {"journal", "bury the journal in a million lines, and write on terminals", flood_log,
     Filter::one_of_two},
};

}  // namespace

std::span<const Escape> resources() {
    return list;
}

}  // namespace vtpm::drill
