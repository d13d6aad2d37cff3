#include "measure.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <stdexcept>

#include "fakes/tpm_commands.h"
#include "vtpm/tpm/message.h"

namespace vtpm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Microseconds = std::chrono::duration<double, std::micro>;
namespace v20 = tpm_commands::v20;

constexpr int rounds =
    40;  // every path and every command once in each: what drifts, drifts for all
constexpr int writes_in_a_round = 10;
constexpr int starts_of_a_kind = 10;
constexpr xen::DomainId engine_domain = 1;
constexpr xen::DomainId echo_domain = 2;

double percentile(std::vector<double>& samples, double share) {
    std::sort(samples.begin(), samples.end());
    const auto last = static_cast<double>(samples.size() - 1);
    return samples[static_cast<std::size_t>(share * last + 0.5)];
}

struct Path {
    const char* name;
    std::function<Bytes(ByteView)> transmit;
    bool is_tpm = true;
};

struct Command {
    const char* name;
    std::function<Bytes()> next;  // called outside the measured time
    int in_a_round;
};

// A TPM does not write what is there already: every write has to bring something new.
Bytes changing_write() {
    static std::uint32_t count = 0;
    Bytes data = ByteWriter().u32(++count).take();
    data.resize(32, 0xC3);
    return v20::nv_write(data);
}

// The data socket of a swtpm, blocking: what QEMU's or libvirt's user pays without QEMU.
class SwtpmSocket {
  public:
    explicit SwtpmSocket(const fakes::Swtpm& swtpm) : fd_(fakes::connect_to(swtpm.socket())) {}

    Bytes transmit(ByteView command) const {
        Bytes answer(4096);
        if (!write_all(fd_.get(), command))
            return {};
        const auto size = ::read(fd_.get(), answer.data(), answer.size());
        answer.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return answer;
    }

  private:
    Fd fd_;
};

double time_one(const Path& path, const Bytes& command) {
    const auto begin = Clock::now();
    const Bytes answer = path.transmit(command);
    const auto took = Microseconds(Clock::now() - begin).count();
    const auto header = tpm::parse_header(answer);
    if (!header || (path.is_tpm && header->code != 0))
        throw std::runtime_error(std::string(path.name) + ": no success");
    return took;
}

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

struct Spread {
    double median;
    double least;
    double most;
};

Spread spread(std::vector<double> values) {
    return {percentile(values, 0.5), percentile(values, 0), percentile(values, 1)};
}

}  // namespace

void require(const Result<void>& result) {
    if (!result)
        throw std::runtime_error(result.error().context);
}

void commands(fakes::SimHost& host) {
    const Uuid uuid = host.create(tpm::Version::v2_0);
    fakes::SimGuest guest(host, engine_domain, uuid);
    require(guest.start());
    fakes::FrontEnd echo(host.directory(), echo_domain);
    const auto& at = echo.address();
    const fakes::Child echo_process({ECHO_PROGRAM, std::to_string(at.domid),
                                     std::to_string(at.ring_ref),
                                     std::to_string(at.event_channel)});
    const fakes::Swtpm swtpm(host.directory() / "peer");
    const SwtpmSocket socket(swtpm);

    auto& ring = guest.front();
    const std::vector<Path> paths = {
        {"engine, spinning", [&](ByteView c) { return ring.transmit(c, true); }},
        {"engine, blocking", [&](ByteView c) { return ring.transmit(c); }},
        {"swtpm", [&](ByteView c) { return socket.transmit(c); }},
        {"echo, spinning", [&](ByteView c) { return echo.transmit(c, true); }, false},
        {"echo, blocking", [&](ByteView c) { return echo.transmit(c); }, false},
    };
    for (const auto& path : paths) {
        const auto answer = tpm::parse_header(path.transmit(v20::nv_define(32)));
        if (!answer)
            throw std::runtime_error(std::string(path.name) + " does not answer");
    }
    const auto before = host.commits(uuid);
    compare(paths, {{"GetRandom(16)", [] { return v20::get_random(16); }, 50},
                    {"PCR_Read", [] { return v20::pcr_read(10); }, 50},
                    {"PCR_Extend", [] { return v20::pcr_extend(10, 0xA5); }, 50},
                    {"NV_Write(32)", changing_write, writes_in_a_round}});
    // Two of the paths are the engine's, and each has one write more a round, to wake it up.
    const auto commits = host.commits(uuid) - before;
    std::printf("durable commits in vtpmmgrd's vault: %llu\n",
                static_cast<unsigned long long>(commits));
    if (commits < 2ULL * rounds * (writes_in_a_round + 1))
        throw std::runtime_error("not every NV write was committed");
}

void starts(fakes::SimHost& host) {
    std::printf("\n%-44s %8s %8s %8s\n", "fork to Ready, ms", "median", "least", "most");
    xen::DomainId domain = 100;
    for (const auto version : {tpm::Version::v1_2, tpm::Version::v2_0}) {
        std::vector<double> made;
        std::vector<double> loaded;
        for (int i = 0; i < starts_of_a_kind; ++i) {
            fakes::SimGuest guest(host, domain++, host.create(version));
            for (auto* const times : {&made, &loaded}) {
                require(guest.start());
                times->push_back(static_cast<double>(guest.start_time().count()) / 1000);
                require(guest.power_off());
                std::this_thread::sleep_for(std::chrono::milliseconds(5));  // vtpmmgrd lets go
            }
        }
        const std::string name = "TPM " + std::string(tpm::to_string(version));
        for (const auto& [what, times] : {std::pair{", first start (manufactured)", made},
                                          std::pair{", later start (state loaded)", loaded}}) {
            const auto s = spread(times);
            std::printf("%-44s %8.1f %8.1f %8.1f\n", (name + what).c_str(), s.median, s.least,
                        s.most);
        }
    }
}

}  // namespace vtpm::bench
