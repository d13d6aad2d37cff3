// What an engine says for a vtpmd that has died, and that the next one hears.
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "bench.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

namespace {

std::string frame(const wire::proto::Report& report) {
    const std::string text = report.SerializeAsString();
    const Bytes prefix = wire::frame_prefix({text.size(), 0});
    return std::string(prefix.begin(), prefix.end()) + text;
}

// An engine that was ready, answers nothing, and then says that it could not do as it was told. It
// keeps the orders that it got as orders.N.
std::filesystem::path engine_that_fails_late(const std::filesystem::path& place) {
    wire::proto::Report ready;
    ready.mutable_ready();
    wire::proto::Report failure;
    failure.mutable_failure()->set_context("the state could not be stored");
    std::ofstream(place / "ready", std::ios::binary) << frame(ready);
    std::ofstream(place / "failure", std::ios::binary) << frame(failure);
    const auto program = place / "engine";
    std::ofstream(program) << "#!/bin/sh\ncd " << place.string() << R"(
n=$(ls orders.* 2>/dev/null | wc -l)
cat <&3 >orders.$n &
[ $n != 0 ] || cat ready >&3
while [ ! -e fail ]; do sleep 0.05; done
rm fail
cat failure >&3
)";
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
    return program;
}

wire::proto::PowerOn power_on_of(const std::filesystem::path& orders) {
    std::ifstream file(orders, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const auto sizes = wire::parse_prefix(
        as_bytes(text).first(std::min(text.size(), std::size_t{wire::prefix_size})));
    REQUIRE(sizes);
    wire::proto::Order order;
    REQUIRE(order.ParseFromString(text.substr(wire::prefix_size, sizes->message)));
    REQUIRE(order.has_power_on());
    return order.power_on();
}

}  // namespace

// A fresh TPM under a running guest would be one whose PCRs are zero without a power cycle.
TEST_CASE("a failure of an engine that was ready is no failed start, whoever hears it", "[heirs]") {
    Bench bench;
    const TemporaryDirectory place;
    bench.host.set_engine(engine_that_fails_late(place.path()));
    bench.guest.serve_as_unit();
    bench.guest.plug();
    bench.guest.start_vtpmd();
    REQUIRE(bench.guest.announced());
    REQUIRE(bench.guest.offer());
    REQUIRE(bench.guest.service().ready());
    for (int i = 0; i < 5000 && !std::filesystem::exists(place.path() / "orders.0"); ++i)
        std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(300ms);  // for Ready to be heard
    CHECK_FALSE(power_on_of(place.path() / "orders.0").failed());
    ::kill(bench.guest.vtpmd().pid(), SIGKILL);
    REQUIRE(bench.guest.vtpmd().wait(10s));
    SECTION("before the heir is there") {
        std::ofstream(place.path() / "fail");
        std::this_thread::sleep_for(300ms);
        bench.guest.start_vtpmd();
    }
    SECTION("while the heir asks where it stands") {
        bench.guest.start_vtpmd();
        std::this_thread::sleep_for(500ms);
        std::ofstream(place.path() / "fail");
    }
    SECTION("after the heir has given up asking") {
        bench.guest.start_vtpmd();
        std::this_thread::sleep_for(3s);
        std::ofstream(place.path() / "fail");
    }
    for (int i = 0; i < 20000 && !std::filesystem::exists(place.path() / "orders.1"); ++i)
        std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(300ms);
    CHECK(power_on_of(place.path() / "orders.1").failed());
    CHECK(bench.guest.destroy());
}
