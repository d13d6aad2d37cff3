// What conquered engines that store as much as they may, and fill the journal, take from others.
#include <algorithm>
#include <cstdio>

#include "stage.h"
#include "vtpm/jail/sanitizer.h"

using namespace vtpm;
using namespace vtpm::drill;

namespace {

using Clock = std::chrono::steady_clock;
constexpr int writes = 200;

struct Latency {
    double p50;
    double p99;
};

// Of an honest guest's writes, one after another, in milliseconds.
Latency measure(SimGuest& guest) {
    static std::uint8_t fill = 0;
    std::vector<double> took;
    for (int i = 0; i < writes; ++i) {
        const auto begin = Clock::now();
        REQUIRE(run(guest, v20::nv_write(Bytes(32, ++fill))) == success);
        took.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    std::sort(took.begin(), took.end());
    return {took[writes / 2], took[writes - 1 - writes / 100]};
}

long resident_kib(pid_t pid) {
    return std::stol(status_line(pid, "VmRSS"));
}

}  // namespace

TEST_CASE("a flood from conquered engines leaves an honest guest its TPM") {
    Stage stage;
    REQUIRE(run(stage.victim, v20::nv_define(32)) == success);
    (void)measure(stage.victim);
    const auto before = measure(stage.victim);
    const auto memory = resident_kib(stage.host.manager_pid());

    std::vector<std::unique_ptr<SimGuest>> conquered;
    for (const auto& flood : floods())
        conquered.push_back(stage.conquered(flood));
    const auto during = measure(stage.victim);
    // They must have been at it, and still be.
    for (std::size_t i = 0; i < conquered.size(); ++i)
        CHECK(conquered[i]->engine_pid() > 0);
    const auto grown = resident_kib(stage.host.manager_pid()) - memory;
    std::printf("%-40s %8s %8s\n", "an honest guest's NV writes, ms", "p50", "p99");
    std::printf("%-40s %8.2f %8.2f\n", "alone", before.p50, before.p99);
    std::printf("%-40s %8.2f %8.2f\n", "beside three conquered engines", during.p50, during.p99);
    std::printf("vtpmmgrd grew by %ld KiB\n", grown);
    CHECK(during.p99 < 10 * before.p99 + 100);
    if (!jail::sanitized)  // whose malloc holds back what is freed
        CHECK(grown < 32L * 1024);
    for (const auto& guest : conquered)
        CHECK(guest->destroy());
    CHECK(stage.journal.lines("vtpm").size() < 300);
    CHECK(run(stage.victim, v20::get_random(16)) == success);
    CHECK(stage.victim.destroy());
}
