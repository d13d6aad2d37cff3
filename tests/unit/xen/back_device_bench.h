// One vtpm device on a fake Xen: the toolstack's, the guest's and the back end's hands.
#pragma once

#include <poll.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "fakes/xen/fake_domains.h"
#include "fakes/xen/fake_store.h"
#include "fakes/xen/plug_in.h"
#include "fakes/xen/recording_owner.h"
#include "vtpm/xen/back_device.h"

namespace vtpm::xen {

class BackDeviceBench {
  public:
    static constexpr DomainId domid = 7;
    static constexpr const char* uuid_text = plugged_uuid;
    const std::string own = plugged_own;
    const std::string frontend = plugged_frontend;
    const std::string error = "/local/domain/0/error/backend/vtpm/7/0";

    using Clock = BackDevice::Clock;
    Clock::time_point now{std::chrono::hours(1)};
    FakeStoreTree tree;
    FakeStore store{tree};
    FakeDomains domains;
    RecordingOwner owner;
    BackDevice device{store, domains, owner, domid, 0};

    BackDeviceBench() {
        domains.set(domid, DomainState::running);
        plug_in(tree);
    }

    void ask_removal() {
        tree.write(own + "/online", "0");
        if (own_state() != "6")
            tree.write(own + "/state", "5");
    }
    void delete_frontend() { tree.remove(frontend); }
    void delete_backend() { tree.remove(own); }

    void guest(const std::string& state) { tree.write(frontend + "/state", state); }
    void offer(const std::string& ring_ref, const std::string& port,
               const std::string& state = "3") {
        tree.write(frontend + "/ring-ref", ring_ref);
        tree.write(frontend + "/event-channel", port);
        tree.write(frontend + "/feature-protocol-v2", "1");
        guest(state);
    }
    void domain(DomainState state, std::optional<ShutdownReason> reason = {}) {
        domains.set(domid, state, reason);
        tree.fire("@releaseDomain");
    }

    void start() { REQUIRE(device.start()); }
    void announce() { REQUIRE(device.announce(now, "2.0")); }
    // As vtpmd's loop does: until there is neither an event nor a deadline that has come.
    void run() {
        for (int round = 0; round < 1000; ++round) {
            REQUIRE(device.update(now));
            const auto deadline = device.next_deadline();
            pollfd events{store.fd(), POLLIN, 0};
            if (device.finished())
                return;
            if ((!deadline || *deadline > now) && ::poll(&events, 1, 0) == 0)
                return;
        }
        FAIL("the device never rests");
    }
    void pass(Clock::duration time) {
        now += time;
        run();
    }
    // A device that is announced, and old enough for every state to be shown.
    void bring_up() {
        start();
        announce();
        pass(BackDevice::show_init_wait);
    }
    void connect(const std::string& ring_ref = "8", const std::string& port = "12") {
        bring_up();
        offer(ring_ref, port);
        run();
        guest("4");
        run();
        REQUIRE(own_state() == "4");
    }

    std::string own_state() { return tree.read(own + "/state").value_or("none"); }
    std::string reported() { return tree.read(error + "/error").value_or(""); }
    std::vector<std::string> states_written() const {
        std::vector<std::string> states;
        for (const auto& [path, value] : store.written()) {
            if (path.ends_with("/state"))
                states.push_back(value);
        }
        return states;
    }
    using Calls = std::vector<std::string>;
};

}  // namespace vtpm::xen
