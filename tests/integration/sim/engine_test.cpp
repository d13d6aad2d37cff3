// What a guest meets on the ring: the shipped vtpm-engine, jailed and all, behind the shipped
// vtpmd.
#include <algorithm>
#include <cstring>
#include <fstream>

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;
using xen::tpmif::Header;

namespace {

std::uint64_t minor_faults(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string field;
    for (int i = 0; i < 10; ++i)  // minflt, proc(5); an engine's name has no blank
        stat >> field;
    return std::stoull(field);
}

// What a guest that keeps no rules writes, and the state in which the back end leaves the page.
Header submit_raw(SimGuest& guest, const Header& header, const Bytes& packet) {
    auto page = guest.hands().page();
    std::memcpy(guest.hands().raw() + sizeof(Header), packet.data(), packet.size());
    Header first = header;
    first.state = xen::tpmif::state::idle;
    std::memcpy(guest.hands().raw(), &first, sizeof first);
    page.publish(header.state);
    REQUIRE(guest.hands().events().notify());
    for (int i = 0; i < 5000 && page.state() == header.state; ++i)
        std::this_thread::sleep_for(1ms);
    return page.header();
}

std::uint32_t code_on_page(SimGuest& guest, std::size_t offset = 0) {
    Bytes answer(std::min<std::size_t>(guest.hands().page().header().length, 4000));
    guest.hands().page().copy_in(offset, answer);
    return code_of(answer);
}

}  // namespace

TEST_CASE("the engine on the simulated Xen is the jailed one") {
    Bench bench;
    boot(bench.guest);
    REQUIRE(run(bench.guest, v20::get_random(16)) == success);  // it has shut its doors by then
    const pid_t pid = bench.guest.engine_pid();
    CHECK(status_line(pid, "Seccomp") == "2");
    CHECK(status_line(pid, "CapEff") == "0000000000000000");
    CHECK(status_line(pid, "NoNewPrivs") == "1");
    CHECK(status_line(pid, "Uid").starts_with("1879049472"));  // 0x70000000 + (5 << 8)
}

// libtpms asks malloc for some 270 KB each time it writes its state down.
TEST_CASE("a write needs no memory that the engine does not have", "[memory]") {
    constexpr int writes = 100;
    Bench bench;
    boot(bench.guest);
    REQUIRE(run(bench.guest, v20::nv_define(32)) == success);
    const auto write = [&](int i) {
        return run(bench.guest, v20::nv_write(Bytes(32, static_cast<std::uint8_t>(i))));
    };
    REQUIRE(write(writes) == success);
    const auto before = minor_faults(bench.guest.engine_pid());
    for (int i = 0; i < writes; ++i)
        REQUIRE(write(i) == success);
    CHECK(minor_faults(bench.guest.engine_pid()) - before < writes);
}

TEST_CASE("malformed requests are answered") {
    Bench bench;
    boot(bench.guest);
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
    boot(bench.guest);
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
