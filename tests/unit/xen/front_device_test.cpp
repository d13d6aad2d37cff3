// Our front end against our back end, each on its thread.
#include "vtpm/xen/front_device.h"

#include <catch2/catch.hpp>
#include <future>

#include "fake_back_end.h"

using namespace vtpm;
using namespace vtpm::xen;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 10s;

struct House {
    FakeStoreTree tree;
    FakeGrantShare grants;
    FakeEventPorts ports;
    FakeStore store{tree};
    FrontDevice front{store, grants, ports, "/local/domain/7/device/vtpm/0"};
    FakeBackEnd back{tree, grants, ports};

    House() {
        plug_in(tree);
        back.run();
    }
    std::string state_of_back() {
        return tree.read("/local/domain/0/backend/vtpm/7/0/state").value_or("none");
    }
    std::string state_of_front() {
        return tree.read("/local/domain/7/device/vtpm/0/state").value_or("none");
    }
    Bytes ask(const Bytes& request, std::uint8_t locality = 0) {
        Bytes response(tpmif::max_packet);
        const auto size = front.ring().transmit(request, locality, response, patience);
        REQUIRE(size);
        response.resize(*size);
        return response;
    }
};

}  // namespace

TEST_CASE("handshake, commands, goodbye") {
    House house;
    REQUIRE(house.front.connect(patience));
    CHECK(house.state_of_back() == "4");
    CHECK(house.state_of_front() == "4");
    CHECK(house.ask({1, 2, 3}, 4) == Bytes{4, 1, 2, 3});
    REQUIRE(house.front.close(patience));
    CHECK(house.state_of_front() == "6");
    CHECK_FALSE(house.front.offered());
}

TEST_CASE("a command before the handshake has ended, as Linux sends it") {
    House house;
    REQUIRE(house.front.offer());
    CHECK(house.ask({9}) == Bytes{0, 9});
    CHECK(house.state_of_front() == "3");
}

TEST_CASE("many commands, one after the other") {
    House house;
    REQUIRE(house.front.connect(patience));
    for (unsigned i = 0; i < 2000; ++i) {
        Bytes request(1 + i % 4000, static_cast<std::uint8_t>(i));
        const auto response = house.ask(request, static_cast<std::uint8_t>(i % 5));
        REQUIRE(response.size() == request.size() + 1);
        REQUIRE(response[0] == i % 5);
        REQUIRE(std::equal(request.begin(), request.end(), response.begin() + 1));
    }
    CHECK(house.back.faults == 0);
}

TEST_CASE("the largest command and the largest answer") {
    House house;
    REQUIRE(house.front.connect(patience));
    const Bytes request(tpmif::max_packet, 0x77);
    CHECK(house.ask(request).size() == tpmif::max_packet);
    const auto too_large = house.front.ring().submit(Bytes(tpmif::max_packet + 1), 0);
    REQUIRE_FALSE(too_large);
    CHECK(too_large.error().code == Errc::too_large);
    CHECK_FALSE(house.front.ring().submit({}, 0));
}

TEST_CASE("a command that takes too long is cancelled, and the ring works on") {
    House house;
    REQUIRE(house.front.connect(patience));
    house.back.slow = true;
    Bytes response(tpmif::max_packet);
    auto& ring = house.front.ring();
    const auto late = ring.transmit(Bytes{1}, 0, response, 50ms);
    REQUIRE_FALSE(late);
    CHECK(late.error().code == Errc::timeout);
    const auto busy = ring.submit(Bytes{2}, 0);
    REQUIRE_FALSE(busy);
    CHECK(busy.error().code == Errc::in_use);
    REQUIRE(ring.cancel());
    CHECK(ring.wait(response, patience));  // our back end finishes what it is told to cancel
    house.back.slow = false;
    CHECK(house.ask({3}) == Bytes{0, 3});
}

TEST_CASE("cancel on an idle ring is acknowledged") {
    House house;
    REQUIRE(house.front.connect(patience));
    REQUIRE(house.front.ring().cancel());
    Bytes response(16);
    const auto cancelled = house.front.ring().wait(response, patience);
    REQUIRE_FALSE(cancelled);
    CHECK(cancelled.error().code == Errc::unavailable);
    CHECK(house.ask({5}) == Bytes{0, 5});
}

TEST_CASE("module reload and resume: a new ring each time") {
    House house;
    for (int i = 1; i <= 3; ++i) {
        REQUIRE(house.front.connect(patience));
        CHECK(house.ask({static_cast<std::uint8_t>(i)})[1] == i);
        if (i == 1)
            REQUIRE(house.front.drop());
    }
    CHECK(house.back.connects == 3);
}

TEST_CASE("a back end's answer is not trusted either") {
    OrdinaryPage memory;
    const auto [mine, theirs] = FakeEventChannel::pair();
    FrontRing ring(memory.page(), *mine);
    Bytes response(16);
    REQUIRE(ring.submit(Bytes{1}, 0));
    SECTION("larger than the page") {
        memory.set_header({4089, tpmif::state::finish, 0, 0, 0});
    }
    SECTION("much larger") {
        memory.set_header({0xffffffff, tpmif::state::finish, 0, 0, 0});
    }
    SECTION("on extra pages") {
        memory.set_header({10, tpmif::state::finish, 0, 0, 1});
    }
    const auto taken = ring.take(response);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == Errc::malformed);
}

TEST_CASE("an answer needs room") {
    OrdinaryPage memory;
    const auto [mine, theirs] = FakeEventChannel::pair();
    FrontRing ring(memory.page(), *mine);
    REQUIRE(ring.submit(Bytes{1}, 0));
    memory.set_header({17, tpmif::state::finish, 0, 0, 0});
    Bytes response(16);
    const auto taken = ring.take(response);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == Errc::too_large);
}

TEST_CASE("no back end: connecting ends in time") {
    FakeStoreTree tree;
    FakeStore store(tree);
    FakeGrantShare grants;
    FakeEventPorts ports;
    FrontDevice front(store, grants, ports, "device/vtpm/0");
    const auto none = front.connect(10ms);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::not_found);

    tree.write("device/vtpm/0/backend", "/local/domain/0/backend/vtpm/0/0");
    tree.write("device/vtpm/0/backend-id", "0");
    tree.write("/local/domain/0/backend/vtpm/0/0/state", "2");
    const auto silent = front.connect(10ms);
    REQUIRE_FALSE(silent);
    CHECK(silent.error().code == Errc::timeout);
    CHECK(tree.read("device/vtpm/0/state") == "3");

    tree.remove("/local/domain/0/backend/vtpm/0/0");
    const auto gone = front.connect(10ms);
    REQUIRE_FALSE(gone);
    CHECK(gone.error().code == Errc::unavailable);

    grants.refuse(true);
    CHECK_FALSE(front.connect(10ms));
    grants.refuse(false);
    ports.refuse(true);
    CHECK_FALSE(front.connect(10ms));
    CHECK_FALSE(front.offered());
}

TEST_CASE("after a 6 the back end's old 4 is no answer") {
    FakeStoreTree tree;
    FakeGrantShare grants;
    FakeEventPorts ports;
    FakeStore store(tree);
    FrontDevice front(store, grants, ports, plugged_frontend);
    plug_in(tree);
    tree.write(plugged_frontend + "/state", "6");
    tree.write(plugged_own + "/state", "4");
    auto connected = std::async(std::launch::async, [&] { return front.connect(patience); });
    CHECK(connected.wait_for(300ms) == std::future_status::timeout);
    CHECK(tree.read(plugged_frontend + "/state") == "6");
    tree.write(plugged_own + "/state", "6");
    CHECK(connected.wait_for(300ms) == std::future_status::timeout);
    CHECK(tree.read(plugged_frontend + "/state") == "3");
    tree.write(plugged_own + "/state", "4");
    CHECK(connected.get());
    CHECK(tree.read(plugged_frontend + "/state") == "4");
}
