#include "data_channel.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::swtpm_engine;

namespace {

class Answers : public xen::RequestHandler {
  public:
    std::size_t handle(ByteView request, std::uint8_t, MutableByteView response) override {
        ++handled;
        size = request.size();
        std::fill_n(response.begin(), 10, std::uint8_t{1});
        return 10;
    }
    std::size_t refuse(xen::RequestFault, MutableByteView response) override {
        ++refused;
        std::fill_n(response.begin(), 10, std::uint8_t{2});
        return 10;
    }
    int handled = 0;
    int refused = 0;
    std::size_t size = 0;
};

struct Rig {
    Rig() {
        auto pair = stream_socket_pair().value();
        REQUIRE(::fcntl(pair.first.get(), F_SETFL, O_NONBLOCK) == 0);
        REQUIRE(::fcntl(pair.second.get(), F_SETFL, O_NONBLOCK) == 0);
        channel.emplace(std::move(pair.first), [this] { return now; });
        peer = std::move(pair.second);
    }
    bool receives(const Bytes& bytes) {
        REQUIRE(write_all(peer.get(), bytes));
        return channel->on_readable(answers, 0);
    }
    std::size_t responses() const {
        Bytes read(4096);
        const auto got = ::read(peer.get(), read.data(), read.size());
        return got < 0 ? 0 : static_cast<std::size_t>(got) / 10;
    }

    std::optional<DataChannel> channel;
    Fd peer;
    Answers answers;
    DataChannel::Clock::time_point now{};
};

Bytes command(std::uint32_t claimed, std::size_t size) {
    Bytes bytes = ByteWriter().u16(0x8001).u32(claimed).u32(0x17b).take();
    bytes.resize(size);
    return bytes;
}

}  // namespace

TEST_CASE("a command is answered once it is whole, whatever its pieces") {
    Rig rig;
    const Bytes whole = command(12, 12);
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
        const auto at = whole.begin() + static_cast<long>(cut);
        REQUIRE(rig.receives({whole.begin(), at}));
        CHECK(rig.responses() == 0);
        CHECK(rig.channel->deadline() == rig.now + DataChannel::patience);
        REQUIRE(rig.receives({at, whole.end()}));
        CHECK(rig.responses() == 1);
        CHECK(rig.answers.size == 12);
        CHECK_FALSE(rig.channel->deadline());
    }
    CHECK(rig.answers.refused == 0);
}

TEST_CASE("the time for a command does not begin anew with each byte") {
    Rig rig;
    REQUIRE(rig.receives(Bytes(1)));
    const auto deadline = rig.channel->deadline();
    rig.now += std::chrono::milliseconds(100);
    REQUIRE(rig.receives(Bytes(1)));
    CHECK(rig.channel->deadline() == deadline);
    REQUIRE(rig.channel->on_time(rig.answers));
    CHECK(rig.responses() == 1);
    REQUIRE(rig.receives(command(12, 12)));
    CHECK(rig.answers.handled == 1);
}

TEST_CASE("one refusal for all that came, and the stream is in step again") {
    Rig rig;
    const auto [claimed, size] = GENERATE(table<std::uint32_t, std::size_t>(
        {{12, 24}, {9, 12}, {0, 10}, {4097, 12}, {8192, 8192}, {4096, 4097}, {0xffffffff, 12}}));
    REQUIRE(rig.receives(command(claimed, size)));
    CHECK(rig.responses() == 1);
    CHECK(rig.answers.refused == 1);
    REQUIRE(rig.receives(command(4096, 4096)));
    CHECK(rig.answers.handled == 1);
    CHECK(rig.answers.size == 4096);
}

TEST_CASE("a peer that is gone ends the channel") {
    Rig rig;
    rig.peer.reset();
    CHECK_FALSE(rig.channel->on_readable(rig.answers, 0));
}

TEST_CASE("a peer that does not read its responses ends the channel") {
    Rig rig;
    int answered = 0;
    while (answered < 100000 && rig.receives(command(12, 12)))
        ++answered;
    CHECK(answered > 10);
    CHECK(answered < 100000);
}
