// A guest's life as xl, the guest's kernel and an administrator's kill see it: the shipped vtpmd.
#include <signal.h>

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t pcr = 10;
const Bytes value(32, 0x5A);
constexpr int stopped = 75 << 8;  // waitpid's word for how vtpmd ends when it is told to

void store_value(SimGuest& guest) {
    REQUIRE(run(guest, v20::nv_define(32)) == success);
    REQUIRE(run(guest, v20::nv_write(value)) == success);
}

// As after a crash: the process is there again under the same name.
void restart_vtpmd(SimGuest& guest) {
    ::kill(guest.vtpmd().pid(), SIGKILL);
    guest.start_vtpmd();
}

bool another_engine(const SimGuest& guest, pid_t before) {
    const pid_t now = guest.engine_pid();
    return now > 0 && now != before;
}

bool soon(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000; ++i) {
        if (condition())
            return true;
        std::this_thread::sleep_for(1ms);
    }
    return false;
}

}  // namespace

TEST_CASE("NV memory outlives power cycles, PCRs do not") {
    Bench bench;
    boot(bench.guest);
    store_value(bench.guest);
    const Bytes zero = read_pcr(bench.guest, pcr);
    REQUIRE(run(bench.guest, v20::pcr_extend(pcr, 0xA5)) == success);
    CHECK(read_pcr(bench.guest, pcr) != zero);
    SECTION("the guest shuts down") {
        CHECK(bench.guest.power_off());
    }
    SECTION("the guest dies without a word to its TPM") {
        CHECK(bench.guest.power_off(false));
    }
    SECTION("the guest is destroyed") {
        CHECK(bench.guest.destroy());
    }

    SimGuest again(bench.host, 6, bench.uuid);
    boot(again);
    CHECK(read_nv(again, 32) == value);
    CHECK(read_pcr(again, pcr) == zero);
    CHECK(again.destroy());
    CHECK(std::filesystem::is_empty(bench.host.directory() / "run"));
    CHECK_FALSE(bench.host.show(bench.uuid).in_use());
}

TEST_CASE("PCRs outlive a reloaded driver") {
    Bench bench;
    boot(bench.guest);
    REQUIRE(run(bench.guest, v20::pcr_extend(pcr, 0xA5)) == success);
    const Bytes extended = read_pcr(bench.guest, pcr);
    const pid_t engine = bench.guest.engine_pid();
    SECTION("it said goodbye") {
        REQUIRE(bench.guest.front().close(5s));
    }
    SECTION("it said nothing") {}
    REQUIRE(bench.guest.connect());
    CHECK(read_pcr(bench.guest, pcr) == extended);
    CHECK(bench.guest.engine_pid() != engine);
    CHECK(bench.guest.power_off());
}

TEST_CASE("a vtpmd that is restarted goes on with the guest's TPM") {
    Bench bench;
    boot(bench.guest);
    store_value(bench.guest);
    REQUIRE(run(bench.guest, v20::pcr_extend(pcr, 0xA5)) == success);
    const auto restart = [&](SimGuest& guest) {
        guest.vtpmd().terminate();
        REQUIRE(guest.vtpmd().wait(10s) == stopped);
        guest.start_vtpmd();
    };
    for (int round = 0; round < 2; ++round) {
        const Bytes extended = read_pcr(bench.guest, pcr);
        restart(bench.guest);
        CHECK(read_pcr(bench.guest, pcr) == extended);
        REQUIRE(run(bench.guest, v20::pcr_extend(pcr, 0x5A)) == success);
    }
    const Bytes extended = read_pcr(bench.guest, pcr);
    CHECK(read_nv(bench.guest, 32) == value);
    SECTION("it is saved and restored afterwards") {
        const auto file = bench.guest.save();
        SimGuest restored(bench.host, 6, bench.uuid);
        restored.restore_from(file);
        boot(restored);
        CHECK(read_pcr(restored, pcr) == extended);
        restart(restored);
        CHECK(read_pcr(restored, pcr) == extended);
        CHECK(restored.destroy());
    }
    SECTION("its driver is not there meanwhile") {
        REQUIRE(bench.guest.front().close(5s));
        restart(bench.guest);
        REQUIRE(bench.guest.connect());
        CHECK(read_pcr(bench.guest, pcr) == extended);
        CHECK(bench.guest.destroy());
    }
    SECTION("and then it is killed") {
        const pid_t engine = bench.guest.engine_pid();
        restart_vtpmd(bench.guest);
        CHECK(soon([&] { return another_engine(bench.guest, engine); }));
        CHECK(run(bench.guest, v20::pcr_read(pcr)) == failure_mode);
        CHECK(bench.guest.destroy());
    }
    SECTION("the guest is gone meanwhile, and created anew") {
        bench.guest.vtpmd().terminate();
        REQUIRE(bench.guest.vtpmd().wait(10s) == stopped);
        bench.host.xen().delete_nodes(5, 0);
        bench.host.xen().remove_domain(5);
    }
    SECTION("the guest had saved itself beside it") {
        const auto checkpoint = bench.guest.save_and_go_on();
        restart(bench.guest);
        CHECK(read_pcr(bench.guest, pcr) == extended);
        CHECK(bench.guest.save() == checkpoint);
        SimGuest restored(bench.host, 6, bench.uuid);
        restored.restore_from(checkpoint);
        boot(restored);
        CHECK(run(restored, v20::pcr_read(pcr)) == failure_mode);
        CHECK(restored.destroy());
    }
    SimGuest again(bench.host, 7, bench.uuid);
    boot(again);
    CHECK(read_pcr(again, pcr) != extended);
    CHECK(read_nv(again, 32) == value);
    CHECK(again.destroy());
}

TEST_CASE("an engine or a vtpmd that was killed leaves a failed TPM until the power cycle") {
    Bench bench;
    boot(bench.guest);
    store_value(bench.guest);
    const pid_t engine = bench.guest.engine_pid();
    REQUIRE(engine > 0);
    SECTION("vtpm-engine") {
        ::kill(engine, SIGKILL);
    }
    SECTION("vtpmd") {
        restart_vtpmd(bench.guest);
    }
    CHECK(soon([&] { return another_engine(bench.guest, engine); }));
    // Neither the command nor a driver's new connection wakes it.
    CHECK(run(bench.guest, v20::get_random(16)) == failure_mode);
    REQUIRE(bench.guest.connect());
    CHECK(run(bench.guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(bench.guest.destroy());

    SimGuest again(bench.host, 6, bench.uuid);
    boot(again);
    CHECK(read_nv(again, 32) == value);
    CHECK(again.destroy());
}

TEST_CASE("an acknowledged write outlives a killed manager") {
    Bench bench;
    boot(bench.guest);
    store_value(bench.guest);
    bench.host.kill_manager();
    Bytes last = value;
    if (GENERATE(false, true)) {  // the guest can read, but is told that it cannot write
        CHECK(run(bench.guest, v20::nv_write(Bytes(32, 0x11))) == nv_unavailable);
        CHECK(run(bench.guest, v20::pcr_read(0)) == success);
        CHECK(run(bench.guest, v20::get_random(16)) == success);
        // It was not forgotten, either: the guest goes on from it.
        last = Bytes(32, 0x77);
        CHECK(run(bench.guest, v20::nv_write(last)) == nv_unavailable);
        bench.host.start_manager();
        CHECK(soon([&] { return run(bench.guest, v20::nv_read(32)) == success; }));
        CHECK(read_nv(bench.guest, 32) == last);
    } else {
        bench.host.start_manager();
    }
    CHECK(bench.guest.destroy());
    SimGuest again(bench.host, 6, bench.uuid);
    boot(again);
    CHECK(read_nv(again, 32) == last);
    CHECK(again.destroy());
}

TEST_CASE("a restarted manager serves the guests that run on") {
    Bench bench;
    boot(bench.guest);
    store_value(bench.guest);
    REQUIRE(run(bench.guest, v20::pcr_extend(pcr, 0xA5)) == success);
    const Bytes extended = read_pcr(bench.guest, pcr);
    const pid_t engine = bench.guest.engine_pid();
    const Bytes newer(32, 0x77);
    bench.host.kill_manager();
    SECTION("a command that writes meanwhile waits for it") {
        const auto begin = std::chrono::steady_clock::now();
        auto back = begin;
        std::thread admin([&] {
            std::this_thread::sleep_for(300ms);
            bench.host.start_manager();
            back = std::chrono::steady_clock::now();
        });
        const auto code = run(bench.guest, v20::nv_write(newer));
        admin.join();
        // A busy machine may take longer to bring it back than a guest can wait.
        if (back - begin < 800ms)
            CHECK(code == success);
        CHECK(soon([&] { return run(bench.guest, v20::nv_write(newer)) == success; }));
    }
    SECTION("its channel arrives together with a command, which takes it") {
        // Both are there when the engine looks; it must not look for the channel a second time.
        REQUIRE(::kill(engine, SIGSTOP) == 0);
        bench.host.start_manager();
        REQUIRE(soon([&] { return bench.host.show(bench.uuid).in_use(); }));
        std::thread release([&] {
            std::this_thread::sleep_for(500ms);
            ::kill(engine, SIGCONT);
        });
        CHECK(run(bench.guest, v20::nv_write(newer)) == success);
        release.join();
        std::this_thread::sleep_for(100ms);
        const auto begin = std::chrono::steady_clock::now();
        CHECK(run(bench.guest, v20::nv_read(32)) == success);
        CHECK(std::chrono::steady_clock::now() - begin < 10s);
    }
    SECTION("again and again") {
        for (int i = 0; i < 3; ++i) {
            bench.host.start_manager();
            const Bytes next(32, static_cast<std::uint8_t>(i));
            REQUIRE(soon([&] { return run(bench.guest, v20::nv_write(next)) == success; }));
            bench.host.kill_manager();
        }
        bench.host.start_manager();
        REQUIRE(soon([&] { return run(bench.guest, v20::nv_write(newer)) == success; }));
    }
    CHECK(bench.host.show(bench.uuid).in_use());
    CHECK(read_nv(bench.guest, 32) == newer);
    CHECK(read_pcr(bench.guest, pcr) == extended);
    CHECK(bench.guest.engine_pid() == engine);
    CHECK(bench.guest.power_off());

    SimGuest again(bench.host, 6, bench.uuid);
    boot(again);
    CHECK(read_nv(again, 32) == newer);
    CHECK(again.destroy());
}

TEST_CASE("a manager that ends while a TPM begins has it begin once it is back") {
    const NoProcessLeft first;
    SimHost host;
    const Uuid uuid = host.create(tpm::Version::v1_2);
    SimGuest guest(host, 5, uuid);
    guest.plug();
    guest.start_vtpmd();
    REQUIRE(guest.announced());
    REQUIRE(guest.offer());
    REQUIRE(soon([&] { return guest.engine_pid() > 0; }));
    // A new TPM 1.2 makes a key, and then stores it.
    SECTION("before its state is loaded, or soon after") {}
    SECTION("while it is made") {
        std::this_thread::sleep_for(200ms);
    }
    host.kill_manager();
    std::this_thread::sleep_for(4s);  // longer than a command of a TPM that serves waits for it
    host.start_manager();
    REQUIRE(soon([&] { return guest.state() == "4"; }));
    CHECK(run(guest, tpm_commands::v12::extend(pcr, 0xA5)) == success);
    CHECK(guest.power_off());
}

TEST_CASE("an instance has one guest at a time") {
    Bench bench;
    boot(bench.guest);
    SimGuest other(bench.host, 6, bench.uuid);
    CHECK_FALSE(other.boot());
    INFO(other.refusal());
    CHECK(other.refusal().find("in use") != std::string::npos);
    CHECK(other.state() == "1");
    CHECK(other.destroy());
    CHECK(other.refusal().empty());
    CHECK(run(bench.guest, v20::get_random(16)) == success);

    CHECK(bench.guest.destroy());
    SimGuest next(bench.host, 7, bench.uuid);
    boot(next);
    CHECK(next.destroy());
}

TEST_CASE("a guest that cannot have its TPM is refused with the reason, and let go at once") {
    Bench bench;
    Uuid uuid = Uuid::random();
    std::string reason;
    SECTION("nobody made it") {
        reason = "vtpmctl create --name NAME --uuid " + uuid.to_string();
    }
    SECTION("it was deleted") {
        uuid = bench.host.create(tpm::Version::v1_2);
        bench.host.remove(uuid);
        reason = "was deleted, and a uuid is not used twice";
    }
    SECTION("there is no manager") {
        uuid = bench.uuid;
        bench.host.kill_manager();
        reason = "systemctl start vtpmmgrd";
    }
    SimGuest guest(bench.host, 6, uuid);
    CHECK_FALSE(guest.boot());
    INFO(guest.refusal());
    CHECK(guest.refusal().find(reason) != std::string::npos);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(guest.destroy());
    CHECK(std::chrono::steady_clock::now() - begin < 1s);
    CHECK(bench.host.xen().read("/local/domain/0/error/backend/vtpm/6").empty());
}

TEST_CASE("a guest that writes nonsense into xenstore gets nothing, and its neighbour everything") {
    Bench bench;
    SimGuest bad(bench.host, 6, bench.host.create(tpm::Version::v2_0));
    boot(bench.guest);
    boot(bad);
    auto& xen = bench.host.xen();
    const auto front = SimXen::frontend(6, 0);
    for (int round = 0; round < 30; ++round) {
        for (const char* word : {"3", "4", "5", "6", "1", "", "9", "-1", "4294967299", "3\n"})
            xen.write(front + "/state", word);
        for (const std::string& number : {std::string("-1"), std::string("0x8"), std::string("1e3"),
                                          std::string(2000, '9'), std::string("8 9")}) {
            xen.write(front + "/ring-ref", number);
            xen.write(front + "/event-channel", number);
            xen.write(front + "/state", "3");
        }
        REQUIRE(run(bench.guest, v20::get_random(16)) == success);
    }
    CHECK(bad.vtpmd().running());
    // It comes to its senses: a 6 that is answered, and a new beginning.
    xen.write(front + "/state", "6");
    CHECK(xen.wait_for(SimXen::backend(6, 0) + "/state", "6"));
    CHECK(bad.connect());
    CHECK(run(bad, v20::get_random(16)) == success);
    CHECK(bad.destroy());
    CHECK(bench.guest.destroy());
}

TEST_CASE("devices of domains that are gone are closed, whoever forgot them") {
    Bench bench;
    bench.guest.plug();
    bench.host.xen().remove_domain(5);
    bench.guest.start_vtpmd();
    CHECK(bench.guest.vtpmd().wait(5s) == 0);
    CHECK(bench.guest.state() == "6");
    CHECK_FALSE(bench.host.show(bench.uuid).in_use());
}
