#include "vtpm/wire/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "vtpm/wire/failure.h"
#include "vtpm/wire/messages.pb.h"

using namespace vtpm;
using namespace std::chrono_literals;
using wire::Channel;

namespace {

struct Pair {
    Pair() {
        auto sockets = stream_socket_pair().value();
        a = std::make_unique<Channel>(std::move(sockets.first));
        b = std::make_unique<Channel>(std::move(sockets.second));
    }
    std::unique_ptr<Channel> a;
    std::unique_ptr<Channel> b;
};

wire::proto::Request list_request() {
    wire::proto::Request request;
    request.set_protocol(wire::protocol_version);
    request.mutable_list()->set_after("0123456789abcdef");
    return request;
}

}  // namespace

TEST_CASE("a frame arrives whole: message, payload, descriptor") {
    Pair pair;
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const Fd reading(pipe_ends[0]);
    Fd writing(pipe_ends[1]);
    const Bytes payload(700'000, 0x5a);
    std::thread sender([&] { REQUIRE(pair.a->send(list_request(), payload, writing.get())); });
    auto frame = pair.b->receive_with_descriptor(5s).value();
    sender.join();
    writing.reset();
    CHECK(wire::parse<wire::proto::Request>(frame).value().list().after() == "0123456789abcdef");
    CHECK(equal_constant_time(frame.payload.view(), payload));
    REQUIRE(frame.descriptor.valid());
    REQUIRE(write_all(frame.descriptor.get(), Bytes{42}));
    std::uint8_t got = 0;
    REQUIRE(read_exactly(reading.get(), {&got, 1}));
    CHECK(got == 42);
}

// A socket that keeps writes apart shows it: one that came in two would wake the receiver twice.
TEST_CASE("a frame is written at once, payload and all") {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    Channel sender{Fd(ends[0])};
    const Fd receiver(ends[1]);
    const auto request = list_request();
    const Bytes payload(3000, 0x5a);
    REQUIRE(sender.send(request, payload));
    Bytes got(8192);
    const auto size = ::read(receiver.get(), got.data(), got.size());
    REQUIRE(size == static_cast<ssize_t>(wire::prefix_size + request.ByteSizeLong() + 3000));
    CHECK(std::equal(payload.begin(), payload.end(), got.begin() + size - 3000));
}

TEST_CASE("an error's text is read whatever is in it") {
    const auto failure = wire::to_message({Errc::corrupt, NextAction::refuse, "group \xff\x1b[2J"});
    wire::Frame frame;
    const std::string bytes = failure.SerializeAsString();
    frame.message.assign(bytes.begin(), bytes.end());
    const auto again = wire::parse<wire::proto::Failure>(frame);
    REQUIRE(again);
    CHECK(wire::to_error(*again).context == "group ??[2J");
    const Error endless{Errc::corrupt, NextAction::refuse, std::string(1'000'000, 'a')};
    CHECK(wire::to_message(endless).context().size() == 4096);
}

TEST_CASE("descriptors that nobody asked for are closed") {
    auto sockets = stream_socket_pair().value();
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const Fd reading(pipe_ends[0]);
    Fd writing(pipe_ends[1]);

    Bytes prefix = wire::frame_prefix({0, 0});
    iovec part{prefix.data(), prefix.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
    const std::array<int, 2> twice = {writing.get(), writing.get()};
    std::memcpy(CMSG_DATA(rights), twice.data(), sizeof twice);
    REQUIRE(::sendmsg(sockets.first.get(), &message, 0) == static_cast<ssize_t>(prefix.size()));

    const auto frame = Channel(std::move(sockets.second)).receive_with_descriptor(5s).value();
    CHECK_FALSE(frame.descriptor.valid());
    writing.reset();
    // The end of the pipe is read only when nobody can write into it any more.
    pollfd ended{reading.get(), POLLIN, 0};
    CHECK(::poll(&ended, 1, 0) == 1);
}

TEST_CASE("frames beyond the limits are refused before memory is taken") {
    for (const auto& prefix : {wire::frame_prefix({wire::max_message_size + 1, 0}),
                               wire::frame_prefix({0, wire::max_payload_size + 1}),
                               wire::frame_prefix({0, 1UL << 30})}) {
        const auto parsed = wire::parse_prefix(prefix);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error().code == Errc::too_large);
    }
    Pair pair;
    CHECK_FALSE(pair.a->send(list_request(), Bytes(wire::max_payload_size + 1)));
}

TEST_CASE("garbage, silence in the middle and an early end each end the channel") {
    auto sockets = stream_socket_pair().value();
    Channel receiver(std::move(sockets.first));
    SECTION("another protocol") {
        REQUIRE(write_all(sockets.second.get(), as_bytes("GET / HTTP/1.1\r\n")));
        const auto got = receiver.receive(1s);
        REQUIRE_FALSE(got);
        CHECK(got.error().code == Errc::malformed);
    }
    SECTION("half a frame, then silence") {
        auto prefix = wire::frame_prefix({100, 0});
        REQUIRE(write_all(sockets.second.get(), prefix));
        const auto got = receiver.receive(50ms);
        REQUIRE_FALSE(got);
        CHECK(got.error().code == Errc::timeout);
    }
    SECTION("half a frame, then the end") {
        REQUIRE(write_all(sockets.second.get(), wire::frame_prefix({100, 0})));
        sockets.second.reset();
        const auto got = receiver.receive(1s);
        REQUIRE_FALSE(got);
        CHECK(got.error().code == Errc::unavailable);
    }
    CHECK(receiver.broken());
    CHECK_FALSE(receiver.receive(10ms));
    CHECK_FALSE(receiver.send(list_request()));
}

TEST_CASE("a message that is no message of the schema is refused") {
    wire::Frame frame;
    frame.message = Bytes{0xff, 0xff, 0xff};
    CHECK_FALSE(wire::parse<wire::proto::Request>(frame));
}

TEST_CASE("errors cross a socket unchanged; unknown codes stay refusals") {
    const Error error{Errc::wrong_chip, NextAction::ask_operator, "not this chip"};
    const auto back = wire::to_error(wire::to_message(error));
    CHECK(back.code == error.code);
    CHECK(back.next == error.next);
    CHECK(back.context == error.context);
    for (int code = 0; code <= static_cast<int>(Errc::unsupported); ++code) {
        const Error one{static_cast<Errc>(code), usual_next_action(static_cast<Errc>(code)), ""};
        INFO(to_string(one.code));
        CHECK(to_string(one.code) != "unknown");
        CHECK(wire::to_error(wire::to_message(one)).code == one.code);
        CHECK(wire::to_error(wire::to_message(one)).next == one.next);
    }
    CHECK(to_string(Errc::not_approved) == "not-approved");
    CHECK(to_string(Errc::latched) == "latched");
    CHECK(usual_next_action(Errc::not_approved) == NextAction::ask_operator);
    CHECK(usual_next_action(Errc::latched) == NextAction::ask_operator);
    wire::proto::Failure newer;
    newer.set_code("some-day");
    CHECK(wire::to_error(newer).code == Errc::unsupported);
}
