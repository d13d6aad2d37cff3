// A guest that speaks the ring raw and keeps no rule: what it costs the host, and itself. The same
// on a real Xen, with a neighbour whose commands are timed: tests/lab/scenarios/cheats.py.
#include <algorithm>
#include <array>
#include <atomic>
#include <functional>

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
namespace state = xen::tpmif::state;

namespace {

constexpr std::uint32_t pcr = 10;

// Does something over and over in a second thread, for as long as it lives.
class Meanwhile {
  public:
    explicit Meanwhile(std::function<void()> what)
        : thread_([this, what = std::move(what)] {
              while (!ended_)
                  what();
          }) {}
    Meanwhile(const Meanwhile&) = delete;
    Meanwhile& operator=(const Meanwhile&) = delete;
    ~Meanwhile() {
        ended_ = true;
        thread_.join();
    }

  private:
    std::atomic<bool> ended_ = false;
    std::thread thread_;
};

// How often a process has called read(); every event that it takes is one.
long reads_of(pid_t pid) {
    std::ifstream io("/proc/" + std::to_string(pid) + "/io");
    for (std::string line; std::getline(io, line);) {
        if (line.starts_with("syscr: "))
            return std::stol(line.substr(7));
    }
    throw std::runtime_error("no syscr");
}

// One event in 5 ms, the 32 that are free, and what a command and its state need.
long reads_allowed(Clock::duration time) {
    return 150 + static_cast<long>(time / 5ms);
}

Bytes extended(SimGuest& guest) {
    REQUIRE(run(guest, v20::pcr_extend(pcr, 0xA5)) == success);
    return read_pcr(guest, pcr);
}

}  // namespace

TEST_CASE("a storm of events about nothing costs an engine little, and its guest no command") {
    Bench bench;
    boot(bench.guest);
    const pid_t engine = bench.guest.engine_pid();
    const auto before = reads_of(engine);
    const auto begin = Clock::now();
    while (Clock::now() < begin + 1s)
        REQUIRE(bench.guest.hands().events().notify());
    CHECK(reads_of(engine) - before <= reads_allowed(Clock::now() - begin));
    for (int i = 0; i < 20; ++i)
        REQUIRE(run(bench.guest, v20::get_random(16)) == success);
    CHECK(bench.guest.engine_pid() == engine);
}

TEST_CASE("a storm of events while a key is made costs an engine little") {
    Bench bench;
    boot(bench.guest);
    const pid_t engine = bench.guest.engine_pid();
    auto& ring = bench.guest.front().ring();
    const auto before = reads_of(engine);
    const auto begin = Clock::now();
    for (std::uint8_t i = 0; i < 3; ++i) {  // a TPM holds no more, and says so at once
        REQUIRE(ring.submit(v20::create_primary_rsa(i), 0));
        while (bench.guest.hands().page().state() == state::submit)
            REQUIRE(bench.guest.hands().events().notify());
    }
    CHECK(reads_of(engine) - before <= 20 + reads_allowed(Clock::now() - begin));
    CHECK(run(bench.guest, v20::get_random(16)) == success);
}

TEST_CASE("a page that changes at every moment costs its guest nothing but answers") {
    Bench bench;
    SimGuest bad(bench.host, 6, bench.host.create(tpm::Version::v2_0));
    boot(bench.guest);
    boot(bad);
    const Bytes before = extended(bad);
    const pid_t engine = bad.engine_pid();
    auto page = bad.hands().page();
    {
        std::uint32_t number = 1;
        std::function<void()> what;
        SECTION("its length") {
            what = [&] {
                for (const std::uint32_t length : {4088U, 0U, 9U, 12U, 4089U, 0xffffffffU})
                    page.set_length(length);
            };
        }
        SECTION("its state") {
            what = [&] {
                page.publish(static_cast<std::uint8_t>(++number));
                page.publish(number % 2 == 0 ? state::submit : state::cancel);
            };
        }
        SECTION("all of its header, and the command's") {
            auto* const words = reinterpret_cast<std::uint32_t*>(bad.hands().raw());
            what = [&, words] {
                for (std::size_t i = 0; i < 6; ++i) {
                    number = number * 1664525 + 1013904223;
                    std::atomic_ref(words[i]).store(number, std::memory_order_relaxed);
                }
                page.publish(state::submit);
            };
        }
        const Bytes good = v20::get_random(16);
        const Meanwhile other(what);
        for (const auto end = Clock::now() + 1s; Clock::now() < end;) {
            page.copy_out(0, good);
            page.set_length(static_cast<std::uint32_t>(good.size()));
            page.publish(state::submit);
            REQUIRE(bad.hands().events().notify());
        }
    }
    CHECK(bad.engine_pid() == engine);
    REQUIRE(bad.connect());
    CHECK(read_pcr(bad, pcr) == before);
    CHECK(run(bench.guest, v20::get_random(16)) == success);
    CHECK(bad.destroy());
    CHECK(bench.guest.destroy());
}

TEST_CASE("states written in every order leave a TPM that goes on where it stood") {
    Bench bench;
    boot(bench.guest);
    const Bytes before = extended(bench.guest);
    auto& xen = bench.host.xen();
    std::array<char, 5> order = {'1', '3', '4', '5', '6'};
    do {
        for (const char value : order)
            xen.write(SimXen::frontend(5, 0) + "/state", std::string(1, value));
    } while (std::next_permutation(order.begin(), order.end()));
    // It comes to its senses: while its state is a lie, a page that it grants may be served twice.
    REQUIRE(bench.guest.front().close(5s));
    REQUIRE(bench.guest.connect());
    CHECK(read_pcr(bench.guest, pcr) == before);
    CHECK(bench.guest.destroy());
}

// Each costs an engine, which ends as it cannot map it; none of them is taken for a TPM that
// crashes.
TEST_CASE("pages that nobody granted leave a TPM that goes on where it stood") {
    Bench bench;
    boot(bench.guest);
    const Bytes before = extended(bench.guest);
    auto& xen = bench.host.xen();
    for (int i = 0; i < 6; ++i) {
        xen.write(SimXen::frontend(5, 0) + "/ring-ref", std::to_string(4000 + i));
        xen.write(SimXen::frontend(5, 0) + "/state", "3");
        std::this_thread::sleep_for(1100ms);
    }
    REQUIRE(bench.guest.connect());
    CHECK(read_pcr(bench.guest, pcr) == before);
    CHECK(bench.guest.destroy());
}

TEST_CASE("a guest that is destroyed while its TPM makes a key is gone, and can begin again") {
    Bench bench;
    boot(bench.guest);
    const Bytes before = extended(bench.guest);
    REQUIRE(bench.guest.front().ring().submit(v20::create_primary_rsa(1), 0));
    CHECK(bench.guest.destroy());
    CHECK_FALSE(bench.host.show(bench.uuid).in_use());

    SimGuest again(bench.host, 6, bench.uuid);
    boot(again);
    CHECK(read_pcr(again, pcr) != before);
    CHECK(again.destroy());
}
