// The shipped vtpm-engine and vtpmmgrd, jailed and all, with a guest that is this test.
#include <sys/prctl.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "fakes/simxen/host.h"
#include "fakes/tpm_commands.h"
#include "vtpm/tpm/message.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;
namespace v20 = tpm_commands::v20;
using xen::tpmif::Header;

namespace {

constexpr std::uint32_t success = 0;
constexpr std::uint32_t command_size = 0x142;    // TPM_RC_COMMAND_SIZE
constexpr std::uint32_t nv_unavailable = 0x923;  // TPM_RC_NV_UNAVAILABLE
constexpr std::uint32_t canceled = 0x909;        // TPM_RC_CANCELED

// First in a test case: after all else of it has ended, we have no children, nor grandchildren that
// their parents left behind.
class NoProcessLeft {
  public:
    NoProcessLeft() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
    NoProcessLeft(const NoProcessLeft&) = delete;
    NoProcessLeft& operator=(const NoProcessLeft&) = delete;
    ~NoProcessLeft() { CHECK(children().empty()); }
};

struct Bench {
    NoProcessLeft first;
    SimHost host;
    Uuid uuid = host.create(tpm::Version::v2_0);
    SimGuest guest{host, 5, uuid};
};

std::uint32_t code_of(ByteView answer) {
    const auto header = tpm::parse_header(answer);
    REQUIRE(header);
    CHECK(header->size == answer.size());
    return header->code;
}

void start(SimGuest& guest) {
    const auto started = guest.start();
    INFO((started ? "" : started.error().context));
    REQUIRE(started);
}

std::uint32_t run(SimGuest& guest, const Bytes& command) {
    return code_of(guest.front().transmit(command));
}

// NV data: after the header, the parameter area's size and the data's own size
Bytes read_nv(SimGuest& guest, std::uint16_t size) {
    const Bytes answer = guest.front().transmit(v20::nv_read(size));
    REQUIRE(code_of(answer) == success);
    REQUIRE(answer.size() >= 16U + size);
    return {answer.begin() + 16, answer.begin() + 16 + size};
}

// What a guest that keeps no rules writes, and the state in which the back end leaves the page.
Header submit_raw(SimGuest& guest, const Header& header, const Bytes& packet) {
    auto& front = guest.front();
    std::memcpy(front.raw() + sizeof(Header), packet.data(), packet.size());
    Header first = header;
    first.state = xen::tpmif::state::idle;
    std::memcpy(front.raw(), &first, sizeof first);
    auto page = front.page();
    page.publish(header.state);
    REQUIRE(front.events().notify());
    for (int i = 0; i < 5000 && front.page().state() == header.state; ++i)
        std::this_thread::sleep_for(1ms);
    return front.page().header();
}

std::uint32_t code_on_page(SimGuest& guest, std::size_t offset = 0) {
    Bytes answer(std::min<std::size_t>(guest.front().page().header().length, 4000));
    guest.front().page().copy_in(offset, answer);
    return code_of(answer);
}

std::string status_line(pid_t pid, const std::string& key) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(key + ":"))
            return line.substr(key.size() + 2);
    }
    return "";
}

}  // namespace

TEST_CASE("what a guest stores is there after its engine was killed, and after a power cycle") {
    Bench bench;
    const Bytes value(32, 0x5A);
    start(bench.guest);
    REQUIRE(run(bench.guest, v20::nv_define(32)) == success);
    REQUIRE(run(bench.guest, v20::nv_write(value)) == success);
    CHECK(read_nv(bench.guest, 32) == value);

    bench.guest.kill();
    start(bench.guest);
    CHECK(read_nv(bench.guest, 32) == value);

    const auto off = bench.guest.power_off();
    INFO((off ? "" : off.error().context));
    REQUIRE(off);
    start(bench.guest);
    CHECK(read_nv(bench.guest, 32) == value);
}

TEST_CASE("the engine on the simulated Xen is the jailed one") {
    Bench bench;
    start(bench.guest);
    const pid_t pid = bench.guest.engine_pid();
    CHECK(status_line(pid, "Seccomp") == "2");
    CHECK(status_line(pid, "CapEff") == "0000000000000000");
    CHECK(status_line(pid, "NoNewPrivs") == "1");
    CHECK(status_line(pid, "Uid").starts_with("1879049472"));  // 0x70000000 + (5 << 8)
}

TEST_CASE("an acknowledged write outlives a killed manager") {
    Bench bench;
    const Bytes value(32, 0x77);
    start(bench.guest);
    REQUIRE(run(bench.guest, v20::nv_define(32)) == success);
    REQUIRE(run(bench.guest, v20::nv_write(value)) == success);
    bench.host.kill_manager();

    SECTION("and its guest can read, but is told that it cannot write") {
        CHECK(run(bench.guest, v20::nv_write(Bytes(32, 0x11))) == nv_unavailable);
        CHECK(run(bench.guest, v20::pcr_read(0)) == success);
        CHECK(run(bench.guest, v20::get_random(16)) == success);
    }
    bench.guest.kill();
    bench.host.start_manager();
    start(bench.guest);
    CHECK(read_nv(bench.guest, 32) == value);
}

TEST_CASE("malformed requests are answered") {
    Bench bench;
    start(bench.guest);
    const Bytes good = v20::get_random(16);
    const auto size = static_cast<std::uint32_t>(good.size());
    using namespace xen::tpmif::state;

    for (const std::uint32_t length : {0U, 9U, 4089U, 0xffffffffU, size - 1, size + 1}) {
        INFO("length " << length);
        const auto after = submit_raw(bench.guest, {length, submit, 0, 0, 0}, good);
        CHECK(after.state == finish);
        CHECK(after.length == tpm::header_size);
        CHECK(code_on_page(bench.guest) == command_size);
    }
    for (const std::uint8_t pages : Bytes{1, 3, 255}) {
        INFO("extra pages " << int{pages});
        const auto after = submit_raw(bench.guest, {size, submit, 0, 0, pages}, good);
        CHECK(after.state == finish);
        CHECK(after.length == tpm::header_size);
        CHECK(code_on_page(bench.guest, 4U * pages) == command_size);
    }
    Bytes lying = good;
    for (const std::uint8_t last : Bytes{0, 11, 13, 255}) {
        INFO("size field " << int{last});
        lying[5] = last;
        CHECK(submit_raw(bench.guest, {size, submit, 0, 0, 0}, lying).state == finish);
        CHECK(code_on_page(bench.guest) == command_size);
    }
    for (const std::uint8_t state : Bytes{3, 4, 7, 128, 255}) {
        INFO("state " << int{state});
        CHECK(submit_raw(bench.guest, {size, state, 0, 0, 0}, good).state == idle);
    }
    for (const std::uint8_t locality : Bytes{4, 32, 255}) {
        INFO("locality " << int{locality});
        CHECK(submit_raw(bench.guest, {size, submit, locality, 0, 0}, good).state == finish);
        CHECK(code_on_page(bench.guest) == 0x107);  // TPM_RC_LOCALITY
    }
    CHECK(submit_raw(bench.guest, {size, submit, 0, 0, 0}, good).state == finish);
    CHECK(code_on_page(bench.guest) == success);
}

TEST_CASE("a CANCEL while a key is made is answered within 5 s") {
    Bench bench;
    start(bench.guest);
    auto& ring = bench.guest.front().ring();
    Bytes answer(xen::tpmif::max_packet);
    int cut_short = 0;
    for (std::uint8_t i = 0; i < 8; ++i) {
        REQUIRE(ring.submit(v20::create_primary_rsa(i), 0));
        std::this_thread::sleep_for(5ms);
        const auto begin = std::chrono::steady_clock::now();
        REQUIRE(ring.cancel());
        const auto size = ring.wait(answer, 5s);
        CHECK(std::chrono::steady_clock::now() - begin < 5s);
        // Too late, when the key was done already: then the ring is idle, the answer is lost.
        if (!size) {
            CHECK(size.error().code == Errc::unavailable);
            continue;
        }
        const auto code = code_of(ByteView(answer).first(*size));
        cut_short += code == canceled ? 1 : 0;
        CHECK((code == canceled || code == success || code == 0x902));  // OBJECT_MEMORY: 3 slots
    }
    CHECK(cut_short > 0);
    CHECK(run(bench.guest, v20::get_random(16)) == success);
}

TEST_CASE("an instance has one holder") {
    Bench bench;
    start(bench.guest);
    SimGuest other(bench.host, 6, bench.uuid);
    const auto second = other.start();
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Errc::in_use);
    CHECK(run(bench.guest, v20::get_random(16)) == success);

    bench.guest.kill();
    // vtpmmgrd sees two closed connections in an order of its own.
    auto again = other.start();
    for (int i = 0; i < 100 && !again; ++i) {
        std::this_thread::sleep_for(10ms);
        again = other.start();
    }
    CHECK(again);
}
