#include <cstdio>
#include <deque>
#include <fstream>
#include <stdexcept>

#include "fakes/tpm_commands.h"
#include "measure.h"

namespace vtpm::bench {
namespace {

// Proportional: a page that n processes share counts 1/n in each (proc(5), smaps_rollup).
long pss_kib(pid_t pid) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string key; rollup >> key;) {
        long value = 0;
        if (key == "Pss:" && rollup >> value)
            return value;
    }
    throw std::runtime_error("no PSS of process " + std::to_string(pid));
}

}  // namespace

void memory(fakes::SimHost& host) {
    std::printf("\n%-20s %10s %10s %10s %10s %12s\n", "PSS, KiB", "vtpmmgrd", "vtpmds", "engines",
                "together", "each guest");
    std::printf("%-20s %10ld\n", "no guest", pss_kib(host.manager_pid()));
    std::deque<fakes::SimGuest> guests;
    xen::DomainId domain = 1000;
    for (const std::size_t wanted : {1U, 10U, 100U}) {
        while (guests.size() < wanted) {
            auto& guest = guests.emplace_back(host, domain++, host.create(tpm::Version::v2_0));
            guest.plug();
            guest.start_vtpmd();
            require(guest.announced() && guest.offer(), "no ring: " + guest.refusal());
            require(!guest.transmit(tpm_commands::v20::get_random(16)).empty(), "no answer");
        }
        const long manager = pss_kib(host.manager_pid());
        long doormen = 0;
        long engines = 0;
        for (auto& guest : guests) {
            doormen += pss_kib(guest.vtpmd().pid());
            engines += pss_kib(guest.engine_pid());
        }
        const long together = manager + doormen + engines;
        std::printf("%3zu %-16s %10ld %10ld %10ld %10ld %12.0f\n", wanted, "guests (2.0)", manager,
                    doormen, engines, together,
                    static_cast<double>(doormen + engines) / static_cast<double>(wanted));
    }
    for (auto& guest : guests)
        require(guest.destroy(), "a guest does not go");
}

}  // namespace vtpm::bench
