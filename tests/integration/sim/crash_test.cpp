// A vtpmd may die at any moment: its engine goes on, and the next vtpmd goes on with it.
#include <signal.h>

#include <future>
#include <random>

#include "recorder.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

TEST_CASE("a killed vtpmd's engine goes on, and the next vtpmd goes on with it", "[heirs]") {
    Recorder life;
    life.begin();
    REQUIRE(run(life.guest, v20::nv_define(32)) == success);
    const pid_t engine = life.guest.engine_pid();
    REQUIRE(engine > 0);
    for (int round = 0; round < 3; ++round) {
        life.kill_vtpmd();
        CHECK(life.host.show(life.uuid).in_use());
        life.extend();  // nobody but the engine is there
        REQUIRE(run(life.guest, v20::nv_write(Bytes(32, 0x10))) == success);
        life.guest.start_vtpmd();
        life.extend();
        CHECK(life.guest.engine_pid() == engine);
    }
    SECTION("through a reloaded driver") {
        REQUIRE(life.guest.connect());
        life.extend();
        CHECK(life.guest.engine_pid() != engine);
        life.restart_vtpmd();
        life.extend();
    }
    SECTION("with its driver away") {
        REQUIRE(life.guest.front().close(5s));
        life.restart_vtpmd();
        std::this_thread::sleep_for(100ms);
        REQUIRE(life.guest.connect());
        life.extend();
    }
    SECTION("while the driver goes, and comes") {
        life.kill_vtpmd();
        REQUIRE(life.guest.offer());  // nobody answers yet
        life.guest.start_vtpmd();
        REQUIRE(life.host.xen().wait_for(SimXen::backend(5, 0) + "/state", "4"));
        life.extend();
    }
    SECTION("through a restart in good order") {
        REQUIRE(life.guest.service().ready());
        life.guest.vtpmd().terminate();
        REQUIRE(life.guest.vtpmd().wait(10s) == stopped);
        life.guest.start_vtpmd();
        life.extend();
        life.restart_vtpmd();
        life.extend();
    }
    SECTION("while the manager is killed as well") {
        life.host.kill_manager();
        life.kill_vtpmd();
        life.guest.start_vtpmd();
        life.extend();
        std::thread admin([&] {
            std::this_thread::sleep_for(200ms);
            life.host.start_manager();
        });
        const auto code = run(life.guest, v20::nv_write(Bytes(32, 0x20)));
        admin.join();
        CHECK((code == success || code == nv_unavailable));
        Bytes last;
        for (int i = 0; i < 5000; ++i) {
            if (run(life.guest, v20::nv_write(Bytes(32, 0x30))) == success)
                break;
            std::this_thread::sleep_for(1ms);
        }
        CHECK(read_nv(life.guest, 32) == Bytes(32, 0x30));
        CHECK(life.guest.engine_pid() == engine);
    }
    SECTION("and is saved, and restored") {
        life.kill_vtpmd();
        life.guest.start_vtpmd();
        const auto file = life.guest.save();
        REQUIRE(file > 1);
        SimGuest restored(life.host, 6, life.uuid);
        restored.restore_from(file);
        boot(restored);
        CHECK(Recorder::digest_of(restored) == life.expected);
        CHECK(restored.destroy());
        return;
    }
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
    CHECK(std::filesystem::is_empty(life.host.directory() / "run"));
    CHECK_FALSE(life.host.show(life.uuid).in_use());
    SimGuest again(life.host, 7, life.uuid);
    boot(again);
    CHECK(Recorder::digest_of(again) == life.zero);
    CHECK(again.destroy());
}

TEST_CASE("what happened while no vtpmd was there is seen by the next", "[heirs]") {
    Recorder life;
    life.begin();
    const pid_t engine = life.guest.engine_pid();
    life.kill_vtpmd();
    auto& xen = life.host.xen();
    SECTION("the guest was destroyed") {
        xen.set_domain(5, "dying");
        life.guest.start_vtpmd();
        CHECK(life.guest.destroy());
    }
    SECTION("the guest and its device are gone altogether") {
        xen.delete_nodes(5, 0);
        xen.remove_domain(5);
        life.guest.start_vtpmd();
        CHECK(life.guest.vtpmd().wait(10s) == 0);
    }
    SECTION("the guest was saved") {
        const auto file = xen.incarnation(5);
        xen.set_domain(5, "shutdown 2");
        xen.ask_removal(5, 0, true);
        life.guest.start_vtpmd();
        CHECK(life.guest.save() == file);
        SimGuest restored(life.host, 6, life.uuid);
        restored.restore_from(file);
        boot(restored);
        CHECK(Recorder::digest_of(restored) == life.expected);
        CHECK(restored.destroy());
    }
    SECTION("its engine died") {
        ::kill(engine, SIGKILL);
        life.guest.start_vtpmd();
        CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
        life.restart_vtpmd();
        CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
        REQUIRE(life.guest.connect());
        CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
        CHECK(life.guest.destroy());
    }
    CHECK(std::filesystem::is_empty(life.host.directory() / "run"));
    CHECK_FALSE(life.host.show(life.uuid).in_use());
    const auto left = status_line(engine, "State");  // a zombie is ours to reap
    CHECK((left.empty() || left.starts_with("Z")));
    SimGuest again(life.host, 7, life.uuid);
    boot(again);
    CHECK(Recorder::digest_of(again) == life.zero);
    CHECK(again.destroy());
}

// One that is stopped says nothing, as in the middle of a long command, and then all at once.
TEST_CASE("an engine that was busy for two vtpmds goes on under the third", "[heirs]") {
    Recorder life;
    life.begin();
    pid_t engine = life.guest.engine_pid();
    SECTION("both have asked where it stands") {
        ::kill(engine, SIGSTOP);
        life.restart_vtpmd();
        std::this_thread::sleep_for(500ms);
        life.restart_vtpmd();
        REQUIRE(life.guest.service().ready());
        ::kill(engine, SIGCONT);
    }
    SECTION("and was told to let go of the ring") {
        ::kill(engine, SIGSTOP);
        auto closed = std::async(std::launch::async,
                                 [&] { return life.guest.front().close(15s).has_value(); });
        std::this_thread::sleep_for(500ms);
        life.restart_vtpmd();
        std::this_thread::sleep_for(3s);  // it has given up asking
        ::kill(engine, SIGCONT);
        REQUIRE(closed.get());
        REQUIRE(life.guest.connect());
        engine = life.guest.engine_pid();
    }
    SECTION("and was told to hand over") {
        REQUIRE(life.guest.front().close(5s));
        ::kill(engine, SIGSTOP);
        REQUIRE(life.guest.offer());
        std::this_thread::sleep_for(500ms);
        life.restart_vtpmd();
        std::this_thread::sleep_for(3s);  // it has given up asking
        ::kill(engine, SIGCONT);
        REQUIRE(life.host.xen().wait_for(SimXen::backend(5, 0) + "/state", "4", 10s));
        engine = life.guest.engine_pid();
    }
    life.extend();
    life.extend();
    CHECK(life.guest.engine_pid() == engine);
    CHECK(life.digest() == life.expected);
    REQUIRE(life.guest.connect());
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
    CHECK_FALSE(life.host.show(life.uuid).in_use());
}

// Its memory is nobody's but vtpmd's then, and cannot go on for as long as the manager is away.
struct BetweenEngines : Recorder {
    BetweenEngines() {
        begin();
        REQUIRE(guest.front().close(5s));
        host.kill_manager();
        REQUIRE(guest.offer());
        for (int i = 0; i < 5000 && guest.engine_pid() > 0; ++i)
            std::this_thread::sleep_for(1ms);
        REQUIRE(guest.engine_pid() == -1);
    }
    void go_on() {
        guest.start_vtpmd();
        REQUIRE(host.xen().wait_for(SimXen::backend(5, 0) + "/state", "4", 20s));
    }
};

TEST_CASE("a vtpmd that ends between two engines leaves the memory for the next", "[heirs]") {
    BetweenEngines life;
    SECTION("killed") {
        life.kill_vtpmd();
    }
    SECTION("killed again and again") {
        for (int i = 0; i < 3; ++i) {
            life.restart_vtpmd();
            std::this_thread::sleep_for(300ms);
        }
        life.kill_vtpmd();
    }
    SECTION("stopped") {
        life.guest.vtpmd().terminate();
        REQUIRE(life.guest.vtpmd().wait(10s) == 1 << 8);
    }
    SECTION("stopped after an engine that could not begin") {
        life.host.set_engine("/bin/false");
        life.restart_vtpmd();
        life.host.start_manager();
        std::this_thread::sleep_for(1s);
        life.guest.vtpmd().terminate();
        REQUIRE(life.guest.vtpmd().wait(10s) == 1 << 8);
        life.host.kill_manager();
        life.host.set_engine(VTPM_REAL_ENGINE);
    }
    life.host.start_manager();
    life.go_on();
    CHECK(life.digest() == life.expected);
    life.extend();
    CHECK(life.digest() == life.expected);
    life.restart_vtpmd();
    life.extend();
    CHECK(life.guest.destroy());
    CHECK(std::filesystem::is_empty(life.host.directory() / "run"));
}

TEST_CASE("a memory does not go on in a TPM that was used meanwhile", "[heirs]") {
    BetweenEngines life;
    life.kill_vtpmd();
    life.host.start_manager();
    SimGuest other(life.host, 6, life.uuid);
    boot(other);
    REQUIRE(run(other, v20::nv_define(32)) == success);
    CHECK(other.destroy());
    life.go_on();
    CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(life.guest.destroy());
}

TEST_CASE("systemctl stop ends the engine of a vtpmd that was killed", "[heirs]") {
    Recorder life;
    life.begin();
    const pid_t engine = life.guest.engine_pid();
    life.kill_vtpmd();
    life.guest.service().forget();
    for (int i = 0; i < 5000 && life.host.show(life.uuid).in_use(); ++i)
        std::this_thread::sleep_for(1ms);
    CHECK_FALSE(life.host.show(life.uuid).in_use());
    life.guest.start_vtpmd();
    CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(life.guest.engine_pid() != engine);
    CHECK(life.guest.destroy());
}

TEST_CASE("while an engine outlives its vtpmd, only the heir gets the instance", "[heirs]") {
    Recorder life;
    life.begin();
    const pid_t engine = life.guest.engine_pid();
    life.kill_vtpmd();
    // One of the same name that does not have what systemd keeps, and another guest.
    Child stranger(life.host.doorman_command("5-0"), SimHost::environment());
    SimGuest other(life.host, 6, life.uuid);
    other.plug();
    other.start_vtpmd();
    CHECK_FALSE(other.announced());
    CHECK(other.refusal().find("in use") != std::string::npos);
    life.extend();
    REQUIRE(run(life.guest, v20::nv_define(32)) == success);
    // It has been refused, and tries again; it neither ended nor has an engine.
    CHECK_FALSE(stranger.wait(0ms));
    CHECK(children_of(stranger.pid()).empty());
    CHECK(life.guest.engine_pid() == engine);
    stranger.kill();
    life.guest.start_vtpmd();
    life.extend();
    CHECK(life.guest.engine_pid() == engine);
    CHECK(life.digest() == life.expected);
    CHECK(other.destroy());
    CHECK(life.guest.destroy());
}

TEST_CASE("vtpmd is killed again and again under a guest that keeps a log", "[heirs]") {
    Recorder life;
    life.begin();
    REQUIRE(run(life.guest, v20::nv_define(32)) == success);
    std::minstd_rand random(7);
    std::atomic<bool> over = false;
    std::atomic<unsigned> kills = 0;
    std::thread killer([&] {
        while (!over) {
            std::this_thread::sleep_for(std::chrono::milliseconds(random() % 120));
            life.restart_vtpmd();
            ++kills;
        }
    });
    const auto end = std::chrono::steady_clock::now() + 4s;
    unsigned writes = 0;
    while (std::chrono::steady_clock::now() < end) {
        life.extend();
        if (life.extends % 8 == 0) {
            const auto filler = static_cast<std::uint8_t>(++writes);
            REQUIRE(run(life.guest, v20::nv_write(Bytes(32, filler))) == success);
            REQUIRE(read_nv(life.guest, 32) == Bytes(32, filler));
        }
    }
    over = true;
    killer.join();
    CHECK(kills > 10);
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
    CHECK_FALSE(life.host.show(life.uuid).in_use());
}
