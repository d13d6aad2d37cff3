#include "measure.h"

#include <array>
#include <atomic>
#include <cstdio>
#include <stdexcept>

#include "compare.h"
#include "fakes/tpm_commands.h"
#include "swtpm_socket.h"

namespace vtpm::bench {
namespace {

using Clock = std::chrono::steady_clock;
namespace v20 = tpm_commands::v20;

constexpr int starts_of_a_kind = 10;
constexpr xen::DomainId engine_domain = 1;
constexpr xen::DomainId echo_domain = 2;

}  // namespace

Bytes changing_write() {
    static std::atomic<std::uint32_t> count = 0;
    Bytes data = ByteWriter().u32(++count).take();
    data.resize(32, 0xC3);
    return v20::nv_write(data);
}

void require(bool well, const std::string& what) {
    if (!well)
        throw std::runtime_error(what);
}

namespace {

// The page and the port of a guest without a TPM, and the process that answers on them.
class Echo {
  public:
    Echo()
        : hands_(echo_domain),
          page_(must(hands_.share(0))),
          port_(must(hands_.open(0))),
          ring_(page_.memory.page(), *port_.channel),
          process_({ECHO_PROGRAM, std::to_string(echo_domain), std::to_string(page_.ref),
                    std::to_string(port_.port)},
                   fakes::SimHost::environment()) {}
    xen::FrontRing& ring() { return ring_; }

  private:
    template <typename T>
    static T must(Result<T> result) {
        require(result.has_value(), "no page or port");
        return std::move(*result);
    }

    fakes::GuestHands hands_;
    xen::GrantedPage page_;
    xen::OpenPort port_;
    xen::FrontRing ring_;
    fakes::Child process_;
};

double milliseconds_since(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

}  // namespace

void commands(fakes::SimHost& host) {
    const Uuid uuid = host.create(tpm::Version::v2_0);
    fakes::SimGuest guest(host, engine_domain, uuid);
    require(guest.boot(), "the guest does not boot: " + guest.refusal());
    Echo echo;
    const fakes::Swtpm swtpm(host.directory() / "peer");
    const SwtpmSocket socket(swtpm);

    auto& ring = guest.front().ring();
    using fakes::transmit;
    const std::vector<Path> paths = {
        {"engine, spinning", [&](ByteView c) { return transmit(ring, c, true); }},
        {"engine, blocking", [&](ByteView c) { return transmit(ring, c); }},
        {"swtpm", [&](ByteView c) { return socket.transmit(c); }},
        {"echo, spinning", [&](ByteView c) { return transmit(echo.ring(), c, true); }, false},
        {"echo, blocking", [&](ByteView c) { return transmit(echo.ring(), c); }, false},
    };
    compare(paths, {{"GetRandom(16)", [] { return v20::get_random(16); }, 50},
                    {"PCR_Read", [] { return v20::pcr_read(10); }, 50},
                    {"PCR_Extend", [] { return v20::pcr_extend(10, 0xA5); }, 50}});
    require(guest.destroy(), "the guest does not go");
}

void starts(fakes::SimHost& host) {
    std::printf("\n%-52s %8s %8s %8s\n", "ms", "median", "least", "most");
    xen::DomainId domain = 100;
    for (const auto version : {tpm::Version::v1_2, tpm::Version::v2_0}) {
        const Bytes command =
            version == tpm::Version::v1_2 ? tpm_commands::v12::get_random(16) : v20::get_random(16);
        std::array<std::vector<double>, 2> announced;  // the first start, a later one
        std::array<std::vector<double>, 2> answered;
        for (int i = 0; i < starts_of_a_kind; ++i) {
            const Uuid uuid = host.create(version);
            for (const std::size_t later : {0U, 1U}) {
                fakes::SimGuest guest(host, domain++, uuid);
                guest.plug();
                const auto begin = Clock::now();
                guest.start_vtpmd();
                require(guest.announced(), "no state 2: " + guest.refusal());
                announced[later].push_back(milliseconds_since(begin));
                const auto offer = Clock::now();
                require(guest.offer(), "no ring");
                require(!guest.transmit(command).empty(), "no answer");
                answered[later].push_back(milliseconds_since(offer));
                require(guest.power_off(), "no end");
            }
        }
        const std::string name = "TPM " + std::string(tpm::to_string(version));
        for (const auto& [what, times] :
             {std::pair{", vtpmd's start to InitWait, new instance", announced[0]},
              std::pair{", vtpmd's start to InitWait, later", announced[1]},
              std::pair{", front end's 3 to first answer, manufactured", answered[0]},
              std::pair{", front end's 3 to first answer, state loaded", answered[1]}}) {
            const auto s = spread(times);
            std::printf("%-52s %8.1f %8.1f %8.1f\n", (name + what).c_str(), s.median, s.least,
                        s.most);
        }
    }
}

}  // namespace vtpm::bench
