#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cheats.h"
#include "fakes/tpm_commands.h"
#include "vtpm/base/fd.h"

namespace vtpm::cheat {
namespace {

namespace v20 = tpm_commands::v20;

bool succeeds(int tpm, const Bytes& command) {
    if (::write(tpm, command.data(), command.size()) != static_cast<ssize_t>(command.size()))
        return false;
    std::array<std::uint8_t, 4096> answer{};
    const auto size = ::read(tpm, answer.data(), answer.size());
    return size >= 10 && std::all_of(answer.begin() + 6, answer.begin() + 10,
                                     [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

// As a program does it, through the stock driver: random numbers and a PCR, one after the other.
void measure(Milliseconds time, Tally& tally) {
    const Fd tpm(::open("/dev/tpm0", O_RDWR | O_CLOEXEC));
    const std::array commands = {v20::get_random(16), v20::pcr_read(10)};
    const auto end = Clock::now() + time;
    std::vector<long> microseconds;
    unsigned failed = 0;
    for (std::size_t i = 0; Clock::now() < end; ++i) {
        const auto begin = Clock::now();
        if (!succeeds(tpm.get(), commands[i % 2]))
            ++failed;
        const auto took = Clock::now() - begin;
        microseconds.push_back(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
    }
    std::sort(microseconds.begin(), microseconds.end());
    const auto at = [&](std::size_t of_a_thousand) {
        return std::to_string(microseconds.at(microseconds.size() * of_a_thousand / 1000));
    };
    tally["count"] = std::to_string(microseconds.size());
    tally["failed"] = std::to_string(failed);
    tally["p50"] = at(500);
    tally["p99"] = at(990);
    tally["max"] = std::to_string(microseconds.back());
}

}  // namespace vtpm::cheat
