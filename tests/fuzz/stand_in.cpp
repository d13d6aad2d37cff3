// In the place of a vtpm-engine: does what it reads from descriptor 4, and writes there what vtpmd
// sends it. Built without sanitizers: one is started for each connection of each run.
//
//     u8 what | u32 size (native) | bytes
//     what: 0 send these to vtpmd, 1 wait for a frame of its, 2 write these into the log
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int doorman = 3;
constexpr int script = 4;

bool read_all(int fd, void* to, std::size_t size) {
    auto* at = static_cast<char*>(to);
    while (size > 0) {
        const auto got = ::read(fd, at, size);
        if (got <= 0)
            return false;
        at += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

void pass_on() {
    pollfd there{doorman, POLLIN, 0};
    std::vector<unsigned char> bytes(65536);
    if (::poll(&there, 1, 200) != 1)
        return;
    const auto got = ::read(doorman, bytes.data(), bytes.size());
    if (got > 0)
        (void)!::write(script, bytes.data(), static_cast<std::size_t>(got));
}

}  // namespace

int main() {
    std::uint8_t what = 0;
    std::uint32_t size = 0;
    while (read_all(script, &what, 1) && read_all(script, &size, sizeof size)) {
        std::vector<unsigned char> bytes(size);
        if (!read_all(script, bytes.data(), size))
            return 1;
        if (what == 1)
            pass_on();
        else if (what == 2)
            (void)!::write(STDERR_FILENO, bytes.data(), size);
        else if (::write(doorman, bytes.data(), size) != static_cast<ssize_t>(size))
            return 1;
    }
    return 0;
}
