// The relay between a stand-in for the kernel's end of /dev/vtpmx and our back end on fakes.
#include "chip_relay.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <future>
#include <thread>

#include "fakes/chip/swtpm.h"
#include "unit/xen/fake_back_end.h"

using namespace vtpm;
using namespace vtpm::front;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 10s;
const std::string& own = xen::plugged_own;
const std::string& frontend = xen::plugged_frontend;

Bytes command_of(std::uint32_t code, ByteView parameters = {}) {
    return ByteWriter()
        .u16(0x8001)
        .u32(static_cast<std::uint32_t>(tpm::header_size + parameters.size()))
        .u32(code)
        .bytes(parameters)
        .take();
}

std::uint32_t code_of(const Bytes& answer) {
    const auto header = tpm::parse_header(answer);
    REQUIRE(header);
    return header->code;
}

Bytes with_locality(std::uint8_t locality, Bytes command) {
    command.insert(command.begin(), locality);
    return command;
}

// A guest: its directory, its kernel's end of the proxy, and a relay on a thread.
class Guest {
  public:
    explicit Guest(bool served = true) {
        xen::plug_in(tree);
        if (served) {
            back.run();
        } else {
            tree.write(own + "/state", "4");
        }
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        kernel = Fd(ends[0]);
        chip.emplace(ProxyChip::adopt(Fd(ends[1])));
        CHECK(code_of(answer()) == 0x909);  // what a process before us may have left
        REQUIRE(device.connect(patience));
    }
    ~Guest() {
        if (relay_.valid())
            (void)stop();
    }
    Guest(const Guest&) = delete;
    Guest& operator=(const Guest&) = delete;

    void run() {
        relay_ = std::async(std::launch::async, [this] {
            ChipRelay relay(device, store.fd(), *chip, heirs, signals.get(),
                            [this](auto channel) { laid_aside += channel ? 1 : 0; });
            return relay.run([this] { ready = true; });
        });
    }
    Result<ChipRelay::End> stop() {
        ::eventfd_write(signals.get(), 1);
        return relay_.get();
    }
    Result<ChipRelay::End> end() { return relay_.get(); }

    void send(const Bytes& command) const {
        REQUIRE(::send(kernel.get(), command.data(), command.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(command.size()));
    }
    bool answered(std::chrono::milliseconds time) const {
        pollfd event{kernel.get(), POLLIN, 0};
        return ::poll(&event, 1, static_cast<int>(time.count())) == 1;
    }
    Bytes answer() const {
        Bytes bytes(ProxyChip::max_message + 1);
        REQUIRE(answered(patience));
        const auto size = ::recv(kernel.get(), bytes.data(), bytes.size(), 0);
        REQUIRE(size > 0);
        bytes.resize(static_cast<std::size_t>(size));
        return bytes;
    }
    Bytes ask(const Bytes& command) const {
        send(command);
        return answer();
    }
    std::string state(const std::string& directory) {
        return tree.read(directory + "/state").value_or("none");
    }

    fakes::TemporaryDirectory place;
    xen::FakeStoreTree tree;
    xen::FakeGrantShare grants;
    xen::FakeEventPorts ports;
    xen::FakeStore store{tree};
    xen::FrontDevice device{store, grants, ports, frontend};
    xen::FakeBackEnd back{tree, grants, ports};
    Fd kernel;
    std::optional<ProxyChip> chip;
    const std::string path = (place.path() / "run" / "vtpm-0.sock").string();
    Testator heirs = *Testator::listen(path);
    Fd signals{::eventfd(0, EFD_CLOEXEC)};
    std::atomic<bool> ready = false;
    std::atomic<int> laid_aside = 0;

  private:
    std::future<Result<ChipRelay::End>> relay_;
};

}  // namespace

TEST_CASE("the kernel's commands go to the back end, and the answers back") {
    Guest guest;
    guest.run();
    for (const std::uint32_t code : {0x17aU, 0x17bU, 0x144U})
        CHECK(guest.ask(command_of(code)) == with_locality(0, command_of(code)));
    CHECK(guest.ready);
}

TEST_CASE("the kernel sets the locality by a command of its own, which the TPM does not get") {
    Guest guest;
    guest.run();
    const std::uint8_t three = 3;
    const auto answer = guest.ask(command_of(0x20001000, {&three, 1}));
    CHECK(answer.size() == tpm::header_size);
    CHECK(code_of(answer) == 0);
    CHECK(guest.ask(command_of(0x17b)) == with_locality(3, command_of(0x17b)));
    CHECK(code_of(guest.ask(command_of(0x20001000))) == 0x142);  // without a locality
    CHECK(guest.ask(command_of(0x17b)) == with_locality(3, command_of(0x17b)));
}

TEST_CASE("a command that does not fit, or lies about its size, is not sent") {
    Guest guest;
    guest.run();
    CHECK(code_of(guest.ask(command_of(0x17b, Bytes(xen::tpmif::max_packet)))) == 0x142);
    auto lie = command_of(0x17b);
    lie.push_back(0);
    CHECK(code_of(guest.ask(lie)) == 0x142);
    CHECK(code_of(guest.ask({0x80, 0x01, 0, 0})) == 0x142);
    CHECK(guest.ask(command_of(0x17b)) == with_locality(0, command_of(0x17b)));
}

TEST_CASE("a command that the kernel gives up for the next one is cancelled") {
    Guest guest;
    guest.back.slow = true;
    guest.run();
    guest.send(command_of(0x131));
    CHECK_FALSE(guest.answered(1s));
    guest.send(command_of(0x17b));
    (void)guest.answer();  // of the first; a kernel would not take it any more
    guest.back.slow = false;
    CHECK(guest.answer() == with_locality(0, command_of(0x17b)));
}

TEST_CASE("a domain that was resumed connects anew") {
    Guest guest;
    guest.run();
    (void)guest.ask(command_of(0x17b));
    guest.tree.write(frontend + "/state", "1");
    CHECK(guest.ask(command_of(0x17b)) == with_locality(0, command_of(0x17b)));
    CHECK(guest.back.connects == 2);
    CHECK(guest.back.requests == 2);
    CHECK(guest.laid_aside == 1);
    CHECK(guest.state(frontend) == "4");
}

TEST_CASE(
    "what was on the ring of a domain that was suspended is answered from its page, or cancelled") {
    Guest guest(false);
    guest.run();
    guest.send(command_of(0x131));
    CHECK_FALSE(guest.answered(200ms));
    SECTION("it left an answer") {
        auto page = guest.grants.map(1);
        REQUIRE(page);
        const auto words = command_of(0);
        page->page().copy_out(0, words);
        page->page().set_length(static_cast<std::uint32_t>(words.size()));
        page->page().publish(xen::tpmif::state::finish);
        guest.tree.write(frontend + "/state", "1");
        CHECK(guest.answer() == words);
    }
    SECTION("it left none") {
        guest.tree.write(frontend + "/state", "1");
        CHECK(code_of(guest.answer()) == 0x909);
    }
    SECTION("it left nonsense") {
        auto page = guest.grants.map(1);
        REQUIRE(page);
        page->page().set_length(3);
        page->page().publish(xen::tpmif::state::finish);
        guest.tree.write(frontend + "/state", "1");
        CHECK(code_of(guest.answer()) == 0x101);
    }
}

TEST_CASE("a back end that comes too late for one attempt is connected to by the next") {
    Guest guest(false);
    guest.run();
    guest.tree.write(own + "/state", "2");
    std::this_thread::sleep_for(11s);  // one attempt, ChipRelay::connect_patience
    guest.tree.write(own + "/state", "4");
    std::this_thread::sleep_for(2s);
    guest.send(command_of(0x17b));
    // It is on the ring that the store says.
    const auto ring = guest.tree.read(frontend + "/ring-ref");
    REQUIRE(ring);
    const auto page = guest.grants.map(static_cast<std::uint32_t>(std::stoul(*ring)));
    REQUIRE(page);
    for (int i = 0; i < 100 && page->page().state() != xen::tpmif::state::submit; ++i)
        std::this_thread::sleep_for(20ms);
    CHECK(page->page().state() == xen::tpmif::state::submit);
}

TEST_CASE("when the toolstack takes the device away, it ends") {
    Guest guest;
    guest.run();
    (void)guest.ask(command_of(0x17b));
    guest.tree.remove(frontend);
    const auto end = guest.end();
    REQUIRE(end);
    CHECK(*end == ChipRelay::End::removed);
}

TEST_CASE("stopped, it tells the TPM so and lets the device go") {
    Guest guest;
    guest.run();
    (void)guest.ask(command_of(0x17b));
    const auto served = guest.back.requests.load();
    const auto end = guest.stop();
    REQUIRE(end);
    CHECK(*end == ChipRelay::End::stopped);
    CHECK(guest.back.requests == served + 1);
    CHECK(guest.laid_aside == 0);
    CHECK(guest.state(frontend) == "6");
}

TEST_CASE("an heir gets the kernel's end, and the first one ends") {
    Guest guest;
    guest.run();
    (void)guest.ask(command_of(0x17b));
    auto inherited = inherit(guest.path, patience);
    REQUIRE(inherited);
    REQUIRE(inherited->has_value());
    CHECK(guest.state(frontend) == "6");
    REQUIRE(confirm(**inherited));
    const auto end = guest.end();
    REQUIRE(end);
    CHECK(*end == ChipRelay::End::inherited);
    guest.chip.emplace(ProxyChip::adopt(std::move((*inherited)->chip)));
    CHECK(code_of(guest.answer()) == 0x909);
    REQUIRE(guest.device.connect(patience));
    guest.run();
    CHECK(guest.ask(command_of(0x17b)) == with_locality(0, command_of(0x17b)));
}

TEST_CASE("an heir that dies before it serves has changed nothing") {
    Guest guest;
    guest.run();
    (void)guest.ask(command_of(0x17b));
    {
        const auto inherited = inherit(guest.path, patience);
        REQUIRE(inherited);
        REQUIRE(inherited->has_value());
    }
    CHECK(guest.ask(command_of(0x17b)) == with_locality(0, command_of(0x17b)));
    CHECK(guest.back.connects == 2);
}

TEST_CASE("nobody to inherit from is no error") {
    const fakes::TemporaryDirectory place;
    const auto path = (place.path() / "vtpm-0.sock").string();
    CHECK_FALSE(*inherit(path, patience));
    { const auto gone = Testator::listen(path); }
    CHECK_FALSE(*inherit(path, patience));
    CHECK(inherit(std::string(200, 'x'), patience).error().code == Errc::invalid_argument);
}

TEST_CASE("an heir does not queue without end behind others") {
    const fakes::TemporaryDirectory directory;
    const std::string path = directory.path() / "vtpm-0.sock";
    const auto holder = Testator::listen(path);
    REQUIRE(holder);
    std::vector<Fd> others;
    for (int i = 0; i < 2; ++i)
        REQUIRE(others.emplace_back(fakes::connect_to(path)).valid());
    const auto begin = std::chrono::steady_clock::now();
    CHECK(inherit(path, patience).error().code == Errc::in_use);
    CHECK(std::chrono::steady_clock::now() - begin < patience);
}
