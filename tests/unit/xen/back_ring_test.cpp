#include "vtpm/xen/back_ring.h"

#include <poll.h>

#include <atomic>
#include <bit>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <thread>

#include "fakes/xen/fake_event_channel.h"
#include "fakes/xen/ordinary_page.h"

using namespace vtpm;
using namespace vtpm::xen;

namespace {

class ScriptedHandler final : public RequestHandler {
  public:
    std::function<std::size_t(MutableByteView)> answer = [](MutableByteView response) {
        response[0] = 0xa5;
        return std::size_t{1};
    };
    Bytes seen;
    int locality = -1;
    unsigned handled = 0;
    std::vector<RequestFault> faults;
    std::size_t room = 0;

    std::size_t handle(ByteView request, std::uint8_t from, MutableByteView response) override {
        ++handled;
        seen.assign(request.begin(), request.end());
        locality = from;
        room = response.size();
        return answer(response);
    }
    std::size_t refuse(RequestFault fault, MutableByteView response) override {
        faults.push_back(fault);
        room = response.size();
        response[0] = 0x0f;
        response[1] = 0xf0;
        return 2;
    }
};

// The guest's side in raw bytes: it may write whatever it likes.
struct Guest {
    OrdinaryPage memory;
    std::pair<std::unique_ptr<FakeEventChannel>, std::unique_ptr<FakeEventChannel>> channel =
        FakeEventChannel::pair();
    ScriptedHandler handler;
    BackRing ring{memory.page(), *channel.second};

    void send(std::uint32_t length, std::uint8_t state, std::uint8_t locality = 0,
              std::uint8_t extra_pages = 0) {
        memory.set_header({length, state, locality, 0, extra_pages});
    }
    bool notified() const {
        pollfd event{channel.first->fd(), POLLIN, 0};
        const bool ready = ::poll(&event, 1, 0) == 1;
        REQUIRE(channel.first->consume());
        return ready;
    }
    Served serve() {
        const auto served = ring.serve(handler);
        REQUIRE(served);
        return *served;
    }
    std::uint8_t state() const { return memory.header().state; }
};

}  // namespace

TEST_CASE("a submitted request is answered in place") {
    Guest guest;
    const auto size = GENERATE(1U, 10U, 4087U, 4088U);
    const auto packet = guest.memory.packet();
    for (std::size_t i = 0; i < packet.size(); ++i) {
        packet[i] = static_cast<std::uint8_t>(i * 7);
    }
    const Bytes request(packet.begin(), packet.begin() + size);
    guest.send(size, tpmif::state::submit);

    CHECK(guest.serve() == Served::command);
    CHECK(guest.handler.seen == request);
    CHECK(guest.handler.room == 4088);
    CHECK(guest.memory.header().length == 1);
    CHECK(packet[0] == 0xa5);
    CHECK(packet[1] == 7);  // only the answer's bytes were written
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.notified());
}

TEST_CASE("the locality of the request is passed on") {
    Guest guest;
    const auto locality = GENERATE(0, 1, 4, 255);
    guest.send(10, tpmif::state::submit, static_cast<std::uint8_t>(locality));
    guest.serve();
    CHECK(guest.handler.locality == locality);
}

TEST_CASE("a length that is none is refused, not read") {
    Guest guest;
    const auto length = GENERATE(4089U, 4096U, 0x10000U, 0x7fffffffU, 0xfffffff8U, 0xffffffffU);
    guest.send(length, tpmif::state::submit);
    CHECK(guest.serve() == Served::command);
    CHECK(guest.handler.handled == 0);
    CHECK(guest.handler.faults == std::vector{RequestFault::too_long});
    CHECK(guest.memory.header().length == 2);
    CHECK(guest.memory.packet()[0] == 0x0f);
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.notified());
}

TEST_CASE("an empty request is refused, not left waiting") {
    Guest guest;
    guest.send(0, tpmif::state::submit);
    CHECK(guest.serve() == Served::command);
    CHECK(guest.handler.faults == std::vector{RequestFault::empty});
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.notified());
}

TEST_CASE("extra pages are refused where the front end looks for the answer") {
    Guest guest;
    const auto pages = GENERATE(1U, 2U, 254U, 255U);
    guest.send(10, tpmif::state::submit, 0, static_cast<std::uint8_t>(pages));
    CHECK(guest.serve() == Served::command);
    CHECK(guest.handler.faults == std::vector{RequestFault::extra_pages});
    CHECK(guest.handler.room == 4088 - 4 * pages);
    CHECK(guest.memory.packet()[4 * pages] == 0x0f);
    CHECK(guest.memory.packet()[4 * pages + 1] == 0xf0);
    CHECK(guest.memory.packet()[0] == 0);
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.notified());
}

TEST_CASE("what the guest changes while its command runs changes nothing") {
    Guest guest;
    const auto packet = guest.memory.packet();
    packet[0] = 1;
    packet[1] = 2;
    guest.send(2, tpmif::state::submit, 3);
    guest.handler.answer = [&](MutableByteView response) {
        guest.send(0xffffffff, tpmif::state::submit, 9, 200);
        packet[0] = 99;
        response[0] = 0x11;
        response[1] = 0x22;
        return std::size_t{2};
    };
    CHECK(guest.serve() == Served::command);
    CHECK(guest.handler.seen == Bytes{1, 2});
    CHECK(guest.handler.locality == 3);
    CHECK(guest.memory.header().length == 2);
    CHECK(packet[0] == 0x11);  // at the offset of the header that was checked
    CHECK(packet[1] == 0x22);
    CHECK(guest.state() == tpmif::state::finish);
}

TEST_CASE("a header that changes all the time is one header or the other, never a mixture") {
    Guest guest;
    std::atomic<bool> stop = false;
    // Lengths that go with their locality; one of them is no length.
    const tpmif::Header headers[] = {{10, tpmif::state::submit, 1, 0, 0},
                                     {4000, tpmif::state::submit, 2, 0, 0},
                                     {0xfffffff0, tpmif::state::submit, 3, 0, 0}};
    std::thread writer([&] {
        std::atomic_ref header(*reinterpret_cast<std::uint64_t*>(guest.memory.data()));
        for (unsigned i = 0; !stop; ++i) {
            header.store(std::bit_cast<std::uint64_t>(headers[i % 3]), std::memory_order_relaxed);
        }
    });
    // The two have to run at the same time often enough, on a busy machine too.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    unsigned mixed = 0;
    while (guest.handler.handled < 30000 && std::chrono::steady_clock::now() < give_up) {
        if (!guest.ring.serve(guest.handler) || guest.handler.handled == 0)
            continue;
        const auto locality = static_cast<std::size_t>(guest.handler.locality);
        mixed += guest.handler.seen.size() != headers[locality - 1].length ? 1U : 0U;
    }
    stop = true;
    writer.join();
    CHECK(guest.handler.handled > 0);
    CHECK(mixed == 0);
}

TEST_CASE("an answer is never larger than the page") {
    Guest guest;
    guest.send(10, tpmif::state::submit);
    SECTION("exactly the page") {
        guest.handler.answer = [](MutableByteView response) { return response.size(); };
    }
    SECTION("a handler that says more than it can have written") {
        guest.handler.answer = [](MutableByteView) { return std::size_t{1} << 40; };
    }
    guest.serve();
    CHECK(guest.memory.header().length == 4088);
    CHECK(guest.state() == tpmif::state::finish);
}

TEST_CASE("an empty answer still ends the command") {
    Guest guest;
    guest.send(10, tpmif::state::submit);
    guest.handler.answer = [](MutableByteView) { return std::size_t{0}; };
    guest.serve();
    CHECK(guest.memory.header().length == 0);
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.notified());
}

TEST_CASE("an idle or finished ring is left alone") {
    Guest guest;
    const auto state = GENERATE(tpmif::state::idle, tpmif::state::finish);
    guest.send(10, state);
    CHECK(guest.serve() == Served::nothing);
    CHECK(guest.handler.handled == 0);
    CHECK(guest.state() == state);
    CHECK_FALSE(guest.notified());
}

TEST_CASE("cancelling nothing is acknowledged, or the guest's next command would wait for it") {
    Guest guest;
    guest.send(10, tpmif::state::cancel);
    CHECK(guest.serve() == Served::nothing);
    CHECK(guest.handler.handled == 0);
    CHECK(guest.state() == tpmif::state::idle);
    CHECK(guest.notified());
}

TEST_CASE("a state that is none becomes idle") {
    Guest guest;
    for (int state = 4; state <= 255; ++state) {
        CAPTURE(state);
        guest.send(10, static_cast<std::uint8_t>(state));
        CHECK(guest.serve() == Served::nothing);
        CHECK(guest.state() == tpmif::state::idle);
        CHECK(guest.notified());
    }
    CHECK(guest.handler.handled == 0);
}

TEST_CASE("a cancel while the command runs is visible, and the command ends all the same") {
    Guest guest;
    guest.send(10, tpmif::state::submit);
    CHECK_FALSE(guest.ring.cancel_requested());
    bool visible = false;
    guest.handler.answer = [&](MutableByteView) {
        guest.memory.page().publish(tpmif::state::cancel);
        visible = guest.ring.cancel_requested();
        return std::size_t{10};
    };
    CHECK(guest.serve() == Served::command);
    CHECK(visible);
    CHECK(guest.state() == tpmif::state::finish);
    CHECK_FALSE(guest.ring.cancel_requested());
    CHECK(guest.notified());
}

TEST_CASE("commands come back to back, without an event between them") {
    Guest guest;
    for (unsigned i = 0; i < 100; ++i) {
        guest.memory.packet()[0] = static_cast<std::uint8_t>(i);
        guest.send(1, tpmif::state::submit);
        CHECK(guest.serve() == Served::command);
        CHECK(guest.handler.seen == Bytes{static_cast<std::uint8_t>(i)});
    }
    CHECK(guest.serve() == Served::nothing);
    CHECK(guest.channel.second->notified() == 100);
}

TEST_CASE("an answer that cannot be announced is on the page nevertheless") {
    Guest guest;
    guest.channel.second->fail_notify(true);
    guest.send(10, tpmif::state::submit);
    CHECK_FALSE(guest.ring.serve(guest.handler));
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.memory.header().length == 1);
}

TEST_CASE("closing leaves nothing of the conversation on the page") {
    Guest guest;
    guest.send(4088, tpmif::state::submit);
    std::ranges::fill(guest.memory.packet(), std::uint8_t{0x5a});
    guest.serve();
    guest.ring.close();
    const auto packet = guest.memory.packet();
    CHECK(std::ranges::all_of(packet, [](auto byte) { return byte == 0; }));
    CHECK(guest.state() == tpmif::state::finish);
    CHECK(guest.memory.header().length == 1);
}
