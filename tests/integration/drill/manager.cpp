#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "escapes.h"
#include "peer.h"
#include "vtpm/base/uuid.h"

namespace vtpm::drill {
namespace {

using wire::proto::Request;

wire::Channel channel_of(Scene& scene) {
    return wire::Channel(Fd(scene.seat.manager_fd));
}

std::string ask(wire::Channel& channel, const google::protobuf::MessageLite& message,
                ByteView payload = {}) {
    if (!channel.send(message, payload))
        return "refused, the channel is closed";
    return verdict(channel.receive(30s));
}

std::string send_raw(Scene& scene, ByteView bytes) {
    if (!write_all(scene.seat.manager_fd, bytes))
        return "refused, the channel is closed";
    if (closed_within(scene.seat.manager_fd, 1s))
        return "refused, the channel is closed";
    return "ESCAPED, it is waited for";
}

std::string open_another(Scene& scene) {
    auto channel = channel_of(scene);
    Request request;
    request.set_protocol(wire::protocol_version);
    const auto uuid = Uuid::parse(scene.uuid);
    request.mutable_open()->set_uuid(uuid->bytes().data(), Uuid::size);
    request.mutable_open()->set_domain(5);
    return ask(channel, request);
}

// A commit with more fields than it has, among them a uuid where a Request has one.
std::string write_for_another(Scene& scene) {
    auto channel = channel_of(scene);
    auto request = commit_of(1, 4);
    const auto uuid = Uuid::parse(scene.uuid);
    std::string named = request.SerializeAsString();
    for (char field = 3; field < 16; ++field) {
        named += static_cast<char>(field << 3 | 2);
        named += static_cast<char>(Uuid::size);
        named.append(reinterpret_cast<const char*>(uuid->bytes().data()), Uuid::size);
    }
    request.ParseFromString(named);
    return ask(channel, request, as_bytes("evil"));
}

// Each kind of request that vtpmctl and vtpmd have, by the number of its field.
std::string administer(Scene& scene) {
    auto channel = channel_of(scene);
    std::string first;
    for (int field = 2; field < 60; ++field) {
        Request request;
        std::string bytes = {8, 1};  // protocol 1
        for (int key = field << 3 | 2; key > 0; key >>= 7)
            bytes += static_cast<char>((key & 0x7f) | (key > 0x7f ? 0x80 : 0));
        bytes += '\0';
        request.ParseFromString(bytes);
        const auto outcome = ask(channel, request);
        if (first.empty())
            first = outcome;
        if (outcome != first)
            return outcome.starts_with("ESCAPED") ? outcome : "ESCAPED, another answer";
    }
    return first;
}

std::string load_twice(Scene& scene) {
    auto channel = channel_of(scene);
    wire::proto::EngineRequest request;
    request.mutable_load();
    (void)ask(channel, request);
    return ask(channel, request);
}

std::string write_old(Scene& scene) {
    auto channel = channel_of(scene);
    std::string outcome;
    const Bytes state(100, 0x5A);
    (void)ask(channel, commit_of(0, state.size()), state);
    (void)ask(channel, commit_of(1, state.size()), Bytes(100, 0x5B));
    for (const std::uint64_t sequence : {0ULL, 1ULL, 3ULL, ~0ULL}) {
        outcome = ask(channel, commit_of(sequence, state.size()), state);
        if (outcome.starts_with("ESCAPED"))
            break;
    }
    return outcome;
}

// As fast as they are taken, for ten seconds; the answers are read.
std::string write_much(Scene& scene) {
    auto channel = channel_of(scene);
    const auto end = std::chrono::steady_clock::now() + 10s;
    constexpr std::size_t wanted = 100'000;
    std::size_t done = 0;
    Bytes state(100, 0x5A);
    for (; done < wanted && std::chrono::steady_clock::now() < end; ++done) {
        std::memcpy(state.data(), &done, sizeof(done));
        if (!channel.send(commit_of(done, state.size()), state) || !channel.receive(30s))
            return "refused, after " + std::to_string(done);
    }
    if (done > 10'000 + 250 * 11)  // what an Allowance gives in that time
        return "ESCAPED, " + std::to_string(done) + " writes";
    return "bounded, " + std::to_string(done) + " of " + std::to_string(wanted) + " writes in 10 s";
}

// Nonsense costs the manager no disk, so only its patience bounds it.
std::string send_megabytes(Scene& scene) {
    auto channel = channel_of(scene);
    const auto end = std::chrono::steady_clock::now() + 10s;
    const Bytes megabyte(1UL << 20);
    const wire::proto::EngineRequest nothing;
    std::size_t done = 0;
    for (; std::chrono::steady_clock::now() < end; ++done) {
        if (!channel.send(nothing, megabyte) || !channel.receive(30s))
            return "refused, after " + std::to_string(done);
    }
    if (done > 250)
        return "ESCAPED, " + std::to_string(done) + " MiB";
    return "bounded, " + std::to_string(done) + " MiB in 10 s";
}

// Requests without an end, and no answer is ever read.
std::string never_listen(Scene& scene) {
    const int fd = scene.seat.manager_fd;
    const auto request = commit_of(7, 0);
    Bytes frame = wire::frame_prefix({request.ByteSizeLong(), 0});
    const auto text = request.SerializeAsString();
    frame.insert(frame.end(), text.begin(), text.end());
    for (std::size_t sent = 0; sent < 1'000'000; ++sent) {
        pollfd one{fd, POLLOUT, 0};
        if (::poll(&one, 1, 5000) == 0)
            return "bounded, " + std::to_string(sent) + " requests, then nobody reads";
        if (!write_all(fd, frame))
            return "refused, the channel is closed";
    }
    return "ESCAPED, a million requests";
}

std::string gigabyte(Scene& scene) {
    return send_raw(scene, wire::frame_prefix({16, 1UL << 30}));
}

std::string large_state(Scene& scene) {
    return send_raw(scene, wire::frame_prefix({16, (1UL << 20) + 1}));
}

std::string large_message(Scene& scene) {
    return send_raw(scene, wire::frame_prefix({wire::max_message_size, 0}));
}

std::string garbage(Scene& scene) {
    Bytes bytes(4096);
    std::mt19937 generator(4);
    for (auto& byte : bytes)
        byte = static_cast<std::uint8_t>(generator());
    return send_raw(scene, bytes);
}

std::string silence(Scene& scene) {
    (void)write_all(scene.seat.manager_fd, wire::frame_prefix({16, 1UL << 20}));
    const auto begin = std::chrono::steady_clock::now();
    if (!closed_within(scene.seat.manager_fd, 30s))
        return "ESCAPED, it is waited for";
    const auto took =
        std::chrono::round<std::chrono::seconds>(std::chrono::steady_clock::now() - begin);
    return "bounded, closed after " + std::to_string(took.count()) + " s";
}

std::string after_close(Scene& scene) {
    ::close(scene.seat.manager_fd);
    const char byte = 0;
    return refused(::write(scene.seat.manager_fd, &byte, 1), "written");
}

const Escape list[] = {
    {"another", "open another guest's instance", open_another},
    {"write-another", "write another guest's state, by naming it in a request", write_for_another},
    {"administer", "each request of an administrator's", administer},
    {"load-twice", "read its state again and again", load_twice},
    {"old-sequence", "store under an old or a coming sequence", write_old},
    {"writes", "100,000 writes", write_much},
    {"megabytes", "a megabyte of nonsense, again and again", send_megabytes},
    {"never-listen", "ask without an end, and never listen", never_listen},
    {"gigabyte", "announce a frame of 1 GiB", gigabyte},
    {"large-state", "announce a state beyond the largest", large_state},
    {"large-message", "announce a message of 256 KiB", large_message},
    {"garbage", "send garbage", garbage},
    {"silence", "begin a frame and fall silent", silence},
    {"after-close", "go on after the channel was closed", after_close},
};

}  // namespace

std::span<const Escape> manager() {
    return list;
}

}  // namespace vtpm::drill
