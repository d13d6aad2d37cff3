#include "compare.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "vtpm/tpm/message.h"

namespace vtpm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;

constexpr int rounds = 40;

double time_one(const Path& path, const Bytes& command) {
    const auto begin = Clock::now();
    const Bytes answer = path.transmit(command);
    const auto took = Microseconds(Clock::now() - begin).count();
    const auto header = tpm::parse_header(answer);
    if (!header || (path.is_tpm && header->code != 0))
        throw std::runtime_error(std::string(path.name) + ": no success");
    return took;
}

}  // namespace

void compare(const std::vector<Path>& paths, const std::vector<Command>& commands) {
    std::vector<std::vector<std::vector<double>>> samples(
        commands.size(), std::vector<std::vector<double>>(paths.size()));
    for (int round = 0; round < rounds; ++round) {
        for (std::size_t c = 0; c < commands.size(); ++c) {
            for (std::size_t p = 0; p < paths.size(); ++p) {
                (void)time_one(paths[p], commands[c].next());  // wakes the path up
                for (int i = 0; i < commands[c].in_a_round; ++i)
                    samples[c][p].push_back(time_one(paths[p], commands[c].next()));
            }
        }
    }
    std::printf("%-16s", "p50 / p99, us");
    for (const auto& path : paths)
        std::printf(" %20s", path.name);
    std::printf(" %8s\n", "samples");
    for (std::size_t c = 0; c < commands.size(); ++c) {
        std::printf("%-16s", commands[c].name);
        for (auto& list : samples[c])
            std::printf(" %9.1f / %8.1f", percentile(list, 0.5), percentile(list, 0.99));
        std::printf(" %8zu\n", samples[c].front().size());
    }
}

Spread spread(std::vector<double> values) {
    return {percentile(values, 0.5), percentile(values, 0), percentile(values, 1)};
}

double percentile(std::vector<double>& samples, double share) {
    std::sort(samples.begin(), samples.end());
    const auto last = static_cast<double>(samples.size() - 1);
    return samples[static_cast<std::size_t>(share * last + 0.5)];
}

}  // namespace vtpm::bench
