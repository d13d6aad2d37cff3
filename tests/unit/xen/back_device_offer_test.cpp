// What a guest may write for a ring, and what may go wrong with it.
#include "back_device_bench.h"

using namespace vtpm;
using namespace vtpm::xen;
using namespace std::chrono_literals;
using Calls = BackDeviceBench::Calls;

TEST_CASE("a ring that cannot be is reported once and tried again when the guest writes") {
    BackDeviceBench bench;
    bench.bring_up();
    const auto* key = GENERATE("ring-ref", "event-channel");
    const auto value = GENERATE(as<std::string>(), "", " ", "0", "-1", "8 ", " 8", "0x8",
                                "4294967296", "99999999999999999999", "eight", "8;12", "\xff");
    CAPTURE(key, value);
    bench.offer("8", "12", "1");
    bench.tree.write(bench.frontend + "/" + key, value);
    bench.guest("3");
    bench.run();
    CHECK(bench.owner.connects == 0);
    CHECK(bench.own_state() == "2");
    CHECK(bench.reported() == std::string(key) + " is missing or malformed");
    CHECK_FALSE(bench.device.next_deadline());  // no busy loop

    const auto calls = bench.store.calls();
    bench.pass(1h);
    CHECK(bench.store.calls() - calls < 20);

    bench.offer("8", "12");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "4");
    CHECK(bench.reported().empty());
}

TEST_CASE("the largest numbers pass") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("4294967295", "4294967295");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 4294967295:4294967295"});
}

TEST_CASE("a missing key is as bad as a malformed one") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("8", "12", "1");
    bench.tree.remove(bench.frontend + "/" + GENERATE("ring-ref", "event-channel"));
    bench.guest("3");
    bench.run();
    CHECK(bench.owner.connects == 0);
    CHECK(bench.own_state() == "2");
    CHECK_FALSE(bench.reported().empty());
}

TEST_CASE("a front end of protocol version 1 is not served") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.offer("8", "12", "1");
    SECTION("no flag") {
        bench.tree.remove(bench.frontend + "/feature-protocol-v2");
    }
    SECTION("flag 0") {
        bench.tree.write(bench.frontend + "/feature-protocol-v2", "0");
    }
    SECTION("flag nonsense") {
        bench.tree.write(bench.frontend + "/feature-protocol-v2", "11");
    }
    bench.guest("3");
    bench.run();
    CHECK(bench.owner.connects == 0);
    CHECK(bench.own_state() == "2");
    CHECK(bench.reported() == "feature-protocol-v2 is missing or malformed");
}

TEST_CASE("a bad ring after a good one ends the good one") {
    BackDeviceBench bench;
    bench.connect();
    bench.offer("nonsense", "12");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    CHECK(bench.own_state() == "2");
    CHECK_FALSE(bench.device.ring());
}

TEST_CASE("an owner that refuses the ring for good is asked again when the guest writes") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.owner.refuse(Error{Errc::malformed, NextAction::refuse, "grant 8 cannot be mapped"});
    bench.offer("8", "12");
    bench.run();
    CHECK(bench.own_state() == "2");
    CHECK(bench.reported() == "grant 8 cannot be mapped");
    CHECK_FALSE(bench.device.next_deadline());
    bench.pass(1h);
    CHECK(bench.owner.connects == 1);

    bench.owner.refuse(std::nullopt);
    bench.guest("3");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "4");
    CHECK(bench.reported().empty());
}

TEST_CASE("an owner that cannot now is asked again by the clock") {
    BackDeviceBench bench;
    bench.bring_up();
    bench.owner.refuse(Error{Errc::locked, NextAction::retry_later, "locked"});
    bench.offer("8", "12");
    bench.run();
    REQUIRE(bench.device.next_deadline() == bench.now + BackDevice::connect_retry);
    bench.pass(BackDevice::connect_retry - 1ms);
    CHECK(bench.owner.connects == 1);
    bench.pass(1ms);
    CHECK(bench.owner.connects == 2);
    bench.owner.refuse(std::nullopt);
    bench.pass(BackDevice::connect_retry);
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "4");
}

TEST_CASE("a guest that offers a new ring again and again gets four, then one a second") {
    BackDeviceBench bench;
    bench.bring_up();
    const auto began = bench.now;
    for (int i = 1; i <= 3000; ++i) {
        bench.offer(std::to_string(i), "12");
        REQUIRE(bench.device.update(bench.now));
        bench.now += 1ms;
    }
    CHECK(bench.owner.connects >= 6);
    CHECK(bench.owner.connects <= 4 + 3);
    CHECK(bench.now - began == 3s);
    // When it stops, its last word holds.
    bench.pass(1s);
    bench.pass(1s);
    CHECK(bench.device.ring() == RingAddress{7, 3000, 12});
    CHECK(bench.own_state() == "4");
}

TEST_CASE("a guest that writes any state at any rate is looked at no more than 50 times a second") {
    BackDeviceBench bench;
    bench.connect();
    const auto states = {"3", "4", "5", "6", "1", "2", "9", "", "6", "3"};
    const auto reads_before = bench.store.written().size();
    for (int i = 0; i < 1000; ++i) {
        for (const auto* state : states) {
            bench.guest(state);
            REQUIRE(bench.device.update(bench.now));
        }
        bench.now += 1ms;
    }
    const auto writes = bench.store.written().size() - reads_before;
    CHECK(writes <= 3 * (64 + 50 + 1));
    CHECK(bench.owner.connects <= 1 + 4 + 1);

    // And a guest that comes to its senses has its TPM.
    bench.offer("20", "21");
    bench.pass(2s);
    bench.pass(2s);
    bench.guest("4");
    bench.pass(1s);
    CHECK(bench.device.ring() == RingAddress{7, 20, 21});
    CHECK(bench.own_state() == "4");
}

TEST_CASE("a guest that writes during every reading does not keep the toolstack out") {
    BackDeviceBench bench;
    bench.connect();
    bench.store.after_read = [&](const std::string& path) {
        if (path.ends_with("/online"))
            bench.guest("4");
    };
    bench.ask_removal();
    bench.delete_frontend();
    bench.domain(DomainState::paused);
    for (int i = 0; i < 200 && bench.own_state() != "6"; ++i) {
        REQUIRE(bench.device.update(bench.now));
        bench.now += 20ms;
    }
    CHECK(bench.own_state() == "6");
}

TEST_CASE("a guest that writes during every reading has no more of them") {
    BackDeviceBench bench;
    bench.connect();
    unsigned readings = 0;
    bench.store.after_read = [&](const std::string& path) {
        if (path != bench.frontend + "/state")
            return;
        ++readings;
        bench.guest("2");
    };
    bench.guest("2");
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(bench.device.update(bench.now));
        bench.now += 1ms;
    }
    CHECK(readings <= 64 + 50 + 4);
}
