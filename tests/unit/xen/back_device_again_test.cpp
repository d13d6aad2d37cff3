// A device that a vtpmd before us has served.
#include "back_device_bench.h"

using namespace vtpm;
using namespace vtpm::xen;
using Calls = BackDeviceBench::Calls;

TEST_CASE("re-attach: connected again without the guest seeing any state") {
    BackDeviceBench bench;
    bench.offer("8", "12", "4");
    bench.tree.write(bench.own + "/state", "4");
    bench.start();
    CHECK(bench.device.was_connected());
    bench.run();
    CHECK(bench.owner.calls.empty());
    bench.announce();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.states_written().empty());
    bench.run();
    CHECK(bench.owner.connects == 1);
}

TEST_CASE("re-attach to a guest that closed meanwhile") {
    BackDeviceBench bench;
    bench.offer("8", "12", "5");
    bench.tree.write(bench.own + "/state", GENERATE("4", "5"));
    bench.start();
    bench.announce();
    bench.run();
    CHECK(bench.own_state() == "5");
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls.empty());
}

TEST_CASE("re-attach at 6 does not show 2, which would lose a kexec'd guest its TPM") {
    BackDeviceBench bench;
    bench.guest("6");
    bench.tree.write(bench.own + "/state", "6");
    bench.start();
    bench.announce();
    bench.run();
    CHECK(bench.states_written().empty());
}

TEST_CASE("going on: a ring that is served already is looked at as if it were just connected") {
    BackDeviceBench bench;
    bench.offer("8", "12", "4");
    bench.tree.write(bench.own + "/state", "4");
    Calls expected;
    std::string own = "4";
    SECTION("nothing has happened") {}
    SECTION("the guest has let go") {
        bench.guest("5");
        expected = {"disconnect"};
        own = "5";
    }
    SECTION("the guest has another ring") {
        bench.offer("9", "13", "4");
        expected = {"disconnect", "connect 9:13"};
    }
    SECTION("the guest offers a ring, maybe a new one of the same numbers") {
        bench.guest("3");
        expected = {"disconnect", "connect 8:12"};
    }
    SECTION("the device is being removed, and the guest is gone") {
        bench.ask_removal();
        bench.delete_frontend();
        expected = {"disconnect"};
        own = "6";
    }
    SECTION("the guest has ended") {
        bench.domains.set(7, DomainState::dying);
        expected = {"disconnect", "power_off", "gone"};
        own = "6";
    }
    bench.start();
    REQUIRE(bench.owner.connect({7, 8, 12}));
    bench.owner.calls.clear();
    bench.device.go_on({7, 8, 12});
    bench.announce();
    bench.run();
    CHECK(bench.owner.calls == expected);
    CHECK(bench.own_state() == own);
}

TEST_CASE("going on: what comes afterwards counts as ever") {
    BackDeviceBench bench;
    bench.offer("8", "12", "4");
    bench.tree.write(bench.own + "/state", "4");
    bench.start();
    REQUIRE(bench.owner.connect({7, 8, 12}));
    bench.owner.calls.clear();
    bench.device.go_on({7, 8, 12});
    bench.announce();
    bench.run();
    CHECK(bench.owner.calls.empty());
    bench.offer("8", "12");
    bench.run();
    CHECK(bench.owner.calls == Calls{"disconnect", "connect 8:12"});
}

TEST_CASE(
    "numbers of the next connection, before its state: nothing happens, and then one connection") {
    BackDeviceBench bench;
    bench.connect();
    bench.tree.write(bench.frontend + "/ring-ref", "9");
    bench.tree.write(bench.frontend + "/event-channel", "14");
    bench.tree.fire("@releaseDomain");  // whatever makes us look
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    bench.guest("3");
    bench.run();
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 9:14"});
    CHECK(bench.own_state() == "4");
}
