// Removal by the toolstack, ends of domains, refusals, a failing store.
#include "back_device_bench.h"

using namespace vtpm;
using namespace vtpm::xen;
using namespace std::chrono_literals;
using Calls = BackDeviceBench::Calls;

TEST_CASE("detach from a live guest: served until it lets go, 6 on its 6") {
    BackDeviceBench bench;
    bench.connect();
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "5");
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    REQUIRE(bench.device.next_deadline() == bench.now + BackDevice::removal_patience);
    bench.now += 100ms;
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    bench.delete_backend();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK(bench.owner.last_life.state == DomainState::running);
    CHECK(bench.device.finished());
}

TEST_CASE("detach from a guest that does not let go is over after five seconds") {
    BackDeviceBench bench;
    bench.connect();
    bench.ask_removal();
    bench.run();
    // Whatever it writes meanwhile buys it nothing.
    bench.pass(3s);
    bench.offer("9", "13");
    bench.pass(1s);
    bench.guest("4");
    bench.pass(999ms);
    CHECK(bench.own_state() == "5");
    CHECK(bench.owner.connects == 1);
    bench.pass(1ms);
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    bench.guest("3");
    bench.pass(10s);
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.connects == 1);
}

TEST_CASE("detach while the guest closes: it gets its 5 and its time for the 6") {
    BackDeviceBench bench;
    bench.connect();
    bench.ask_removal();
    bench.guest("5");
    bench.run();
    CHECK(bench.own_state() == "5");
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
}

TEST_CASE("online=0 alone is a removal too, and so is a 5 that is not ours") {
    BackDeviceBench bench;
    bench.connect();
    SECTION("online") {
        bench.tree.write(bench.own + "/online", "0");
    }
    SECTION("state") {
        bench.tree.write(bench.own + "/state", "5");
    }
    bench.run();
    CHECK(bench.own_state() == "5");
    bench.guest("6");
    bench.run();
    CHECK(bench.own_state() == "6");
}

TEST_CASE("removal is answered at once when nobody has to let go") {
    BackDeviceBench bench;
    SECTION("front end directory gone") {
        bench.connect();
        bench.delete_frontend();
    }
    SECTION("paused") {
        bench.connect();
        bench.domains.set(7, DomainState::paused);
    }
    SECTION("suspended, as in xl save") {
        bench.connect();
        bench.domains.set(7, DomainState::shutdown, ShutdownReason::suspend);
    }
    SECTION("the guest has no driver") {
        bench.bring_up();
    }
    SECTION("the guest closed it before") {
        bench.connect();
        bench.guest("6");
    }
    SECTION("never announced") {
        bench.start();
    }
    SECTION("its offers were no rings") {
        bench.bring_up();
        bench.offer("x", "y");
        bench.run();
    }
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK_FALSE(bench.device.ring());
}

TEST_CASE("removal when we are at 6 already needs nothing") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("6");
    bench.run();
    const auto written = bench.store.written().size();
    bench.ask_removal();
    bench.run();
    bench.guest("5");
    bench.run();
    CHECK(bench.store.written().size() == written);
}

TEST_CASE("orderly guest shutdown: 5, 6, then the domain's death") {
    BackDeviceBench bench;
    bench.connect();
    bench.guest("5");
    bench.run();
    bench.guest("6");
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    bench.domain(DomainState::shutdown, ShutdownReason::power_off);
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK(bench.owner.last_life.reason == ShutdownReason::power_off);
    CHECK(bench.device.finished());
    CHECK_FALSE(bench.device.next_deadline());
}

TEST_CASE("a domain that ends without a word") {
    BackDeviceBench bench;
    bench.connect();
    const auto reason =
        GENERATE(ShutdownReason::power_off, ShutdownReason::reboot, ShutdownReason::crash,
                 ShutdownReason::watchdog, ShutdownReason::soft_reset, ShutdownReason::unknown);
    bench.domain(DomainState::shutdown, reason);
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK(bench.owner.last_life.reason == reason);
    CHECK(bench.own_state() == "6");  // before libxl asks, so that it need not wait
}

TEST_CASE("a domain that is destroyed") {
    BackDeviceBench bench;
    bench.connect();
    SECTION("seen dying") {
        bench.domain(DomainState::dying);
    }
    SECTION("seen gone") {
        bench.domain(DomainState::gone);
    }
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK_FALSE(bench.owner.last_life.reason);
}

TEST_CASE("save: suspended is not dead; its device goes, and the owner learns why") {
    BackDeviceBench bench;
    bench.connect();
    bench.domain(DomainState::shutdown, ShutdownReason::suspend);
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK(bench.own_state() == "4");
    bench.delete_frontend();
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "6");
    SECTION("the device is deleted before the domain is gone") {
        bench.delete_backend();
        bench.run();
        CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
        bench.domain(DomainState::gone);
        bench.run();
    }
    SECTION("the device is deleted, and the domain stays") {
        bench.delete_backend();
        bench.run();
        bench.pass(BackDevice::going_patience - 1ms);
        CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
        bench.pass(1ms);
    }
    SECTION("the domain is gone first") {
        bench.domain(DomainState::gone);
        bench.run();
    }
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK(bench.owner.last_life.reason == ShutdownReason::suspend);
}

TEST_CASE("xl destroy: the engine is put away once the domain is destroyed, or after a while") {
    BackDeviceBench bench;
    bench.connect();
    bench.domain(DomainState::paused);
    bench.delete_frontend();
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "6");
    bench.delete_backend();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect"});
    SECTION("destroyed") {
        bench.domain(DomainState::dying);
        bench.run();
    }
    SECTION("an admin had paused it, and detaches its TPM") {
        bench.pass(BackDevice::going_patience);
    }
    SECTION("an admin lets it run on") {
        bench.domain(DomainState::running);
        bench.run();
    }
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
}

TEST_CASE("checkpoint: a suspended domain that runs on keeps its ring") {
    BackDeviceBench bench;
    bench.connect();
    bench.domain(DomainState::shutdown, ShutdownReason::suspend);
    bench.run();
    bench.domain(DomainState::running);
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    CHECK_FALSE(bench.device.life().reason);
}

TEST_CASE("the back end's node vanishes") {
    BackDeviceBench bench;
    bench.connect();
    bench.delete_backend();
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK_FALSE(bench.tree.read(bench.own));  // and is not written back to life
    bench.pass(1h);
    CHECK(bench.owner.calls.size() == 4);
}

TEST_CASE("libxl need not wait for the engine, and may delete the back end while it is put away") {
    BackDeviceBench bench;
    bench.connect();
    std::string shown;
    bench.owner.during_power_off = [&] {
        shown = bench.own_state();
        bench.delete_backend();
    };
    bench.domain(DomainState::gone);
    bench.run();
    CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
    CHECK(shown == "6");
    CHECK_FALSE(bench.tree.read(bench.own + "/state"));  // and is not written back to life
}

TEST_CASE("a stale node of a dead domain is closed and released") {
    BackDeviceBench bench;
    bench.delete_frontend();
    bench.domains.set(7, DomainState::gone);
    bench.start();
    bench.announce();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls == Calls{"power_off", "gone"});
}

TEST_CASE("a stale node of a live domain goes to 6") {
    BackDeviceBench bench;
    bench.delete_frontend();
    bench.bring_up();
    CHECK(bench.own_state() == "6");
    CHECK(bench.owner.calls.empty());
}

TEST_CASE("stopping the daemon writes nothing") {
    FakeStoreTree tree;
    FakeStore store(tree);
    FakeDomains domains;
    RecordingOwner owner;
    domains.set(7, DomainState::running);
    {
        BackDevice device(store, domains, owner, 7, 0);
        tree.write("/local/domain/7/device/vtpm/0/state", "1");
        tree.write("backend/vtpm/7/0/frontend", "/local/domain/7/device/vtpm/0");
        tree.write("backend/vtpm/7/0/frontend-id", "7");
        tree.write("backend/vtpm/7/0/uuid", BackDeviceBench::uuid_text);
        tree.write("backend/vtpm/7/0/state", "1");
        REQUIRE(device.start());
        REQUIRE(device.announce(BackDevice::Clock::now(), "2.0"));
    }
    CHECK(tree.read("backend/vtpm/7/0/state") == "2");
    CHECK(owner.calls.empty());
}

TEST_CASE("refused: the reason is where xl's user finds it, state stays 1, removal is quick") {
    BackDeviceBench bench;
    bench.start();
    REQUIRE(bench.device.refuse("the vault is locked: vtpmctl approve this-boot"));
    bench.offer("8", "12");
    bench.run();
    CHECK(bench.own_state() == "1");
    CHECK(bench.reported() == "the vault is locked: vtpmctl approve this-boot");
    CHECK(bench.owner.calls.empty());
    bench.ask_removal();
    bench.run();
    CHECK(bench.own_state() == "6");
    CHECK_FALSE(bench.tree.read(bench.own).value_or("none") == "none");  // libxl deletes it
    bench.delete_backend();
    bench.run();
    CHECK(bench.owner.calls == Calls{"power_off", "gone"});
    CHECK(bench.reported().empty());
    CHECK_FALSE(bench.tree.read(bench.error));
    CHECK_FALSE(bench.tree.read("/local/domain/0/error/backend/vtpm/7"));
}

TEST_CASE("another device's report outlives ours") {
    BackDeviceBench bench;
    const std::string other = "/local/domain/0/error/backend/vtpm/7/1/error";
    bench.tree.write(other, "of another vtpmd");
    bench.start();
    REQUIRE(bench.device.refuse("no"));
    bench.delete_backend();
    bench.run();
    CHECK_FALSE(bench.tree.read(bench.error));
    CHECK(bench.tree.read(other) == "of another vtpmd");
}

TEST_CASE("every single failure of the store is survived") {
    // The whole life of a device, with the nth call failing: the same end, and no call out of
    // order.
    for (unsigned nth = 1;; ++nth) {
        CAPTURE(nth);
        BackDeviceBench bench;
        bench.start();
        bench.store.fail_call(nth);
        const auto settle = [&] {
            for (int i = 0; i < 10; ++i) {
                if (!bench.device.update(bench.now))
                    REQUIRE(bench.device.next_deadline());
                bench.now += 1s;
            }
        };
        if (!bench.device.announce(bench.now, "2.0"))
            REQUIRE(bench.device.announce(bench.now, "2.0"));
        settle();
        bench.offer("8", "12");
        settle();
        bench.guest("4");
        settle();
        CHECK(bench.own_state() == "4");
        bench.ask_removal();
        settle();
        CHECK(bench.own_state() == "6");
        bench.delete_backend();
        settle();
        CHECK(bench.owner.calls == Calls{"connect 8:12", "disconnect", "power_off", "gone"});
        if (bench.store.failure_is_due())
            break;  // n is beyond the last call
    }
}

TEST_CASE("a hypervisor that does not answer is an error, not the guest's death") {
    BackDeviceBench bench;
    bench.connect();
    bench.domains.fail_call(1);
    bench.tree.fire("@releaseDomain");
    CHECK_FALSE(bench.device.update(bench.now));
    CHECK(bench.device.next_deadline() == bench.now + BackDevice::store_retry);
    CHECK(bench.owner.calls == Calls{"connect 8:12"});
    bench.pass(BackDevice::store_retry);
    CHECK_FALSE(bench.device.next_deadline());
}
