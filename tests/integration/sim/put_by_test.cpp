// A vtpmd that is stopped, and whose TPM cannot be put by: the engine goes on, with the next one.
#include <signal.h>

#include <future>

#include "recorder.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

TEST_CASE("a vtpmd that cannot put its TPM by leaves the engine for the next", "[heirs]") {
    Recorder life;
    life.begin();
    const pid_t engine = life.guest.engine_pid();
    REQUIRE(life.guest.service().ready());
    life.host.kill_manager();
    life.guest.vtpmd().terminate();
    REQUIRE(life.guest.vtpmd().wait(10s) == 1 << 8);
    life.extend();
    life.host.start_manager();
    life.guest.start_vtpmd();
    life.extend();
    CHECK(life.guest.engine_pid() == engine);
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
}

// The manager hangs, and either dies of it or has stored after all what nobody waits for any more.
struct FailedSuspend : Recorder {
    explicit FailedSuspend(bool stored) {
        begin();
        engine = guest.engine_pid();
        REQUIRE(guest.service().ready());
        ::kill(host.manager_pid(), SIGSTOP);
        guest.vtpmd().terminate();
        REQUIRE(guest.vtpmd().wait(15s) == 1 << 8);
        if (!stored) {
            host.kill_manager();
            host.start_manager();
        } else {
            ::kill(host.manager_pid(), SIGCONT);
        }
    }
    pid_t engine = -1;
};

TEST_CASE("an engine whose put-by has failed goes on once the next vtpmd knows", "[heirs]") {
    FailedSuspend life(GENERATE(false, true));
    life.guest.start_vtpmd();
    life.extend();
    CHECK(life.guest.engine_pid() == life.engine);
    CHECK(life.digest() == life.expected);
    SECTION("through a reloaded driver") {
        REQUIRE(life.guest.connect());
        life.extend();
        CHECK(life.digest() == life.expected);
    }
    SECTION("and what it was to put by is not gone on with") {
        life.kill_vtpmd();
        ::kill(life.engine, SIGKILL);
        life.guest.start_vtpmd();
        CHECK(run(life.guest, v20::pcr_read(pcr)) == failure_mode);
    }
    SECTION("and can be put by the next time") {
        REQUIRE(life.guest.service().ready());
        life.guest.vtpmd().terminate();
        REQUIRE(life.guest.vtpmd().wait(10s) == stopped);
        life.guest.start_vtpmd();
        CHECK(life.digest() == life.expected);
    }
    CHECK(life.guest.destroy());
    CHECK_FALSE(life.host.show(life.uuid).in_use());
}

// Nobody knows then which of the two is true, and until somebody does nothing may become different.
TEST_CASE("an engine whose put-by has failed serves nobody by itself", "[heirs]") {
    FailedSuspend life(true);
    auto extended = std::async(std::launch::async, [&] { life.extend(); });
    CHECK(extended.wait_for(1s) == std::future_status::timeout);
    life.guest.start_vtpmd();
    CHECK(extended.wait_for(10s) == std::future_status::ready);
    extended.get();
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
}

// As when vtpmmgrd and vtpmd are restarted in one command. The hold is noticed to be lost only
// after the order, which meets the engine in the middle of the guest's command.
TEST_CASE("a command that waits for the manager is not answered because vtpmd is stopped",
          "[heirs]") {
    Recorder life;
    life.begin();
    REQUIRE(run(life.guest, v20::nv_define(32)) == success);
    const pid_t engine = life.guest.engine_pid();
    REQUIRE(life.guest.service().ready());
    ::kill(life.host.manager_pid(), SIGSTOP);
    auto written = std::async(std::launch::async,
                              [&] { return run(life.guest, v20::nv_write(Bytes(32, 0x10))); });
    std::this_thread::sleep_for(300ms);
    life.guest.vtpmd().terminate();
    std::this_thread::sleep_for(300ms);
    life.host.kill_manager();
    REQUIRE(life.guest.vtpmd().wait(15s) == 1 << 8);
    life.host.start_manager();
    life.guest.start_vtpmd();
    CHECK(written.get() == success);
    life.extend();
    CHECK(life.guest.engine_pid() == engine);
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
}

TEST_CASE("a TPM that could not go on is not begun anew by the next vtpmd, and costs nobody else's",
          "[heirs]") {
    Recorder life;
    life.begin();
    const auto older = life.guest.save();
    REQUIRE(older > 1);
    SimGuest second(life.host, 6, life.uuid);
    second.restore_from(older);
    boot(second);
    REQUIRE(run(second, v20::pcr_extend(pcr, 0x55)) == success);
    const Bytes last = Recorder::digest_of(second);
    const auto newer = second.save();
    REQUIRE(newer > 1);

    SimGuest wrong(life.host, 7, life.uuid);
    wrong.serve_as_unit();
    wrong.restore_from(older);
    boot(wrong);
    CHECK(run(wrong, v20::pcr_read(pcr)) == failure_mode);
    REQUIRE(wrong.service().ready());
    wrong.vtpmd().terminate();
    REQUIRE(wrong.vtpmd().wait(15s));
    wrong.start_vtpmd();
    CHECK(run(wrong, v20::pcr_read(pcr)) == failure_mode);
    REQUIRE(wrong.connect());
    CHECK(run(wrong, v20::pcr_read(pcr)) == failure_mode);
    CHECK(wrong.destroy());

    SimGuest right(life.host, 8, life.uuid);
    right.restore_from(newer);
    boot(right);
    CHECK(Recorder::digest_of(right) == last);
    CHECK(right.destroy());
}

// The label under which the TPM was put by must outlive the vtpmd in between: its beginning is what
// goes on, with the state that this names.
TEST_CASE("a TPM whose beginning waits for the manager goes on under the next vtpmd", "[heirs]") {
    Recorder life;
    life.begin();
    REQUIRE(life.guest.service().ready());
    life.guest.vtpmd().terminate();
    REQUIRE(life.guest.vtpmd().wait(10s) == stopped);
    life.guest.start_vtpmd();
    pid_t engine = -1;
    for (int i = 0; i < 10'000 && (engine = life.guest.engine_pid()) < 0; ++i)
        std::this_thread::yield();
    REQUIRE(engine > 0);
    ::kill(engine, SIGSTOP);  // before it has loaded anything
    std::this_thread::sleep_for(500ms);
    life.host.kill_manager();
    ::kill(engine, SIGCONT);
    SECTION("stopped") {
        life.guest.vtpmd().terminate();
        REQUIRE(life.guest.vtpmd().wait(10s) == 1 << 8);
    }
    SECTION("killed") {
        life.kill_vtpmd();
    }
    life.guest.start_vtpmd();
    std::this_thread::sleep_for(500ms);
    life.host.start_manager();
    CHECK(life.digest() == life.expected);
    life.extend();
    CHECK(life.digest() == life.expected);
    CHECK(life.guest.destroy());
}
