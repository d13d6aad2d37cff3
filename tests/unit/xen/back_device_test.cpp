// The table of back_device.cpp, line by line.
#include "back_device_bench.h"

using namespace vtpm;
using namespace vtpm::xen;
using namespace std::chrono_literals;
using Calls = BackDeviceBench::Calls;
using States = std::vector<std::string>;

TEST_CASE("starting writes nothing and reads the uuid from the back end's directory") {
    BackDeviceBench bench;
    bench.tree.write(bench.frontend + "/uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff");
    bench.start();
    CHECK(bench.device.uuid().to_string() == BackDeviceBench::uuid_text);
    CHECK_FALSE(bench.device.was_connected());
    CHECK(bench.store.written().empty());
    bench.run();
    CHECK(bench.store.written().empty());
    CHECK(bench.owner.calls.empty());
}

TEST_CASE("a device that is not there is not found") {
    BackDeviceBench bench;
    bench.delete_backend();
    const auto started = bench.device.start();
    REQUIRE_FALSE(started);
    CHECK(started.error().code == Errc::not_found);
}

TEST_CASE("entries that libxl would not have written are not believed") {
    BackDeviceBench bench;
    SECTION("another domain's") {
        bench.tree.write(bench.own + "/frontend-id", "8");
    }
    SECTION("no domain's") {
        bench.tree.write(bench.own + "/frontend-id", "seven");
    }
    SECTION("frontend-id missing") {
        bench.tree.remove(bench.own + "/frontend-id");
    }
    SECTION("no uuid") {
        bench.tree.remove(bench.own + "/uuid");
    }
    SECTION("half a uuid") {
        bench.tree.write(bench.own + "/uuid", "0f8fad5b");
    }
    SECTION("frontend missing") {
        bench.tree.remove(bench.own + "/frontend");
    }
    SECTION("a frontend elsewhere") {
        bench.tree.write(bench.own + "/frontend", "/local/domain/77/device/vtpm/0");
    }
    const auto started = bench.device.start();
    REQUIRE_FALSE(started);
    CHECK(started.error().code == Errc::malformed);

    // Such a device can still be refused and seen off.
    REQUIRE(bench.device.refuse("broken entries"));
    bench.run();
    CHECK(bench.reported() == "broken entries");
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "6");
    bench.delete_backend();
    bench.run();
    CHECK(bench.device.finished());
}

TEST_CASE("announcing writes the features, then 2") {
    BackDeviceBench bench;
    bench.start();
    bench.announce();
    REQUIRE(bench.store.written().size() == 3);
    CHECK(bench.tree.read(bench.own + "/feature-protocol-v2") == "1");
    CHECK(bench.tree.read(bench.own + "/tpm-version") == "2.0");
    CHECK(bench.store.written()[0].path == "backend/vtpm/7/0/feature-protocol-v2");
    CHECK(bench.store.written()[2].path == "backend/vtpm/7/0/state");
    CHECK(bench.own_state() == "2");
}

TEST_CASE("before the announcement the guest can do nothing") {
    BackDeviceBench bench;
    bench.start();
    for (const auto* state : {"3", "4", "5", "6", "1", "3"}) {
        bench.offer("8", "12", state);
        bench.run();
    }
    CHECK(bench.own_state() == "1");
    CHECK(bench.owner.calls.empty());
}

TEST_CASE("a front end at 3 or 4 is connected and shown 4") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("8", "12", GENERATE("3", "4"));
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "4");
    CHECK(bench.device.ring() == RingAddress{7, 8, 12});
    CHECK(bench.states_written() == States{"2", "4"});
}

TEST_CASE("Linux's way from 3 to 4 is one connection") {
    BackDeviceBench bench;
    bench.connect();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.states_written() == States{"2", "4"});
}

TEST_CASE("hot attach: the ring is served at once, but libxl gets its time to see 2") {
    BackDeviceBench bench;
    bench.start();
    bench.offer("8", "12");
    bench.announce();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "2");
    REQUIRE(bench.device.next_deadline());
    CHECK(*bench.device.next_deadline() == bench.now + BackDevice::show_init_wait);
    bench.pass(BackDevice::show_init_wait - 1ms);
    CHECK(bench.own_state() == "2");
    bench.pass(1ms);
    CHECK(bench.own_state() == "4");
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK_FALSE(bench.device.next_deadline());
}

TEST_CASE("front end 5 is answered with 5, then 6 with 6") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("5");
    bench.run();
    CHECK(bench.own_state() == "5");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    bench.pass(60s);  // and it is for the guest to go on
    CHECK(bench.states_written() == States{"2", "4", "5"});
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    CHECK_FALSE(bench.device.finished());
}

TEST_CASE("front end 6 without a 5 disconnects and stays at 6") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("6");
    bench.run();
    bench.pass(60s);
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
}

TEST_CASE("front end 1 after 6 reopens at 2") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("5");
    bench.run();
    bench.guest("6");
    bench.run();
    bench.guest("1");
    bench.run();
    CHECK(bench.own_state() == "2");
    bench.offer("9", "13");
    bench.run();
    CHECK(bench.own_state() == "4");  // no libxl waits for this 2
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 9:13"});
}

TEST_CASE("kexec while connected: 5, 6, 1 seen as nothing but the 1") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("5");
    bench.guest("6");
    bench.guest("1");
    bench.run();
    CHECK(bench.own_state() == "2");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
}

TEST_CASE("module reload: 6, then 3 with no 1 between") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
    bench.offer("8", "12");
    bench.run();
    CHECK(bench.own_state() == "4");
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 8:12"});
    CHECK(bench.states_written() == States{"2", "4", "6", "4"});
}

TEST_CASE("module reload faster than we look, with the same numbers again") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("6");
    SECTION("seen at 3") {
        bench.offer("8", "12");
    }
    SECTION("seen at 4") {
        bench.offer("8", "12");
        bench.guest("4");
    }
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 8:12"});
    CHECK(bench.own_state() == "4");
    bench.run();
    CHECK(bench.owner.connects == 2);
}

TEST_CASE("resume in place: 3 with new numbers, from 3 and from 4") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("8", "12");
    bench.run();
    if (GENERATE(false, true)) {
        bench.guest("4");
        bench.run();
    }
    bench.offer("9", "12");
    bench.run();
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 9:12"});
    bench.offer("9", "14");
    bench.run();
    CHECK(bench.owner.calls.back() == "connect 9:14");
    CHECK(bench.own_state() == "4");
}

TEST_CASE("resume in place with the same numbers is seen by the write") {
    BackDeviceBench bench;
    bench.connect();
    bench.offer("8", "12");
    bench.run();
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 8:12"});
}

TEST_CASE("a write that comes between our reads is not counted twice") {
    BackDeviceBench bench;
    bench.bring_up();
    // The guest writes 3 while we are reading for another reason: the reading that sees the 3
    // must know that the event belongs to it, or the one connection would become two.
    bool written = false;
    bench.store.after_read = [&](const std::string& path) {
        if (written || !path.ends_with("/online"))
            return;
        written = true;
        bench.offer("8", "12");
    };
    bench.tree.fire("@releaseDomain");
    bench.run();
    REQUIRE(written);
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
}

TEST_CASE("numbers that were read after an older connection's state are one connection") {
    BackDeviceBench bench;
    bench.connect();
    bool written = false;
    bench.store.after_read = [&](const std::string& path) {
        if (written || !path.ends_with("/feature-protocol-v2"))
            return;
        written = true;
        bench.guest("6");
        bench.guest("1");
        bench.offer("9", "14");
    };
    bench.tree.fire("@releaseDomain");
    bench.run();
    REQUIRE(written);
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "connect 9:14"});
    CHECK(bench.own_state() == "4");
}

TEST_CASE("a reading that never settles connects nothing") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("8", "12");
    // Four readings see the 3; during the last one the guest begins anew, up to the numbers.
    int readings = 0;
    bench.store.after_read = [&](const std::string& path) {
        if (path != bench.frontend + "/state" || ++readings > 4)
            return;
        bench.guest(readings < 4 ? "3" : "1");
        bench.tree.write(bench.frontend + "/ring-ref", "9");
    };
    REQUIRE(bench.device.update(bench.now));
    REQUIRE(readings == 4);
    bench.guest("3");
    bench.run();
    bench.guest("4");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 9:12"});
}

TEST_CASE("what changes after it was read is looked at again, whose event it was") {
    BackDeviceBench bench;
    bench.connect();
    int disturbances = GENERATE(1, 4, 5);
    bench.store.after_read = [&](const std::string& path) {
        if (path != bench.frontend + "/state" || disturbances == 0)
            return;
        if (--disturbances == 0)
            bench.ask_removal();
        else
            bench.tree.fire("@releaseDomain");
    };
    bench.tree.fire("@releaseDomain");
    bench.run();
    CHECK(disturbances == 0);
    CHECK(bench.own_state() == "5");
    CHECK(bench.device.next_deadline() == bench.now + BackDevice::removal_patience);
}

TEST_CASE("the front end's directory gone: 6") {
    BackDeviceBench bench;
    bench.connect();
    bench.delete_frontend();
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
}

TEST_CASE("states of the front end that mean nothing change nothing") {
    BackDeviceBench bench;
    bench.connect();
    const auto written = bench.store.written().size();
    for (const auto* state : {"", "0", "2", "7", "8", "44", "-1", "connected", "4 "}) {
        bench.guest(state);
        bench.run();
    }
    CHECK(bench.store.written().size() == written);
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
}

TEST_CASE("events without a change write nothing") {
    BackDeviceBench bench;
    bench.connect();
    const auto written = bench.store.written().size();
    for (int i = 0; i < 10; ++i) {
        bench.tree.fire("@releaseDomain");
        bench.tree.write(bench.own + "/online", "1");
        bench.run();
    }
    CHECK(bench.store.written().size() == written);
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
}
