#include "escapes.h"
#include "peer.h"

namespace vtpm::drill {
namespace {

// Vtpmd has to end the process; it gets long enough for it.
std::string wait_for_the_end() {
    ::poll(nullptr, 0, 20'000);
    return "ESCAPED, vtpmd goes on with it";
}

std::string send_raw(Scene& scene, ByteView bytes) {
    (void)write_all(scene.seat.doorman_fd, bytes);
    return wait_for_the_end();
}

std::string reports(Scene& scene, void (*fill)(wire::proto::Report&)) {
    wire::proto::Report report;
    fill(report);
    wire::Channel channel{Fd(scene.seat.doorman_fd)};
    for (int i = 0; i < 10'000'000; ++i) {
        if (!channel.send(report))
            break;
    }
    return wait_for_the_end();
}

void failing(wire::proto::Report& report) {
    report.mutable_failure()->set_code("io");
    report.mutable_failure()->set_context("<0>\x1b[2J" + std::string(1000, 'x') +
                                          "\nvtpmd: all is lost");
}

const Escape list[] = {
    {"vtpmd-garbage", "send garbage", [](Scene& s) { return send_raw(s, Bytes(4096, 0x5A)); }},
    {"vtpmd-gigabyte", "announce a frame of 1 GiB",
     [](Scene& s) {
         return send_raw(s, wire::frame_prefix({16, 1UL << 30}));
     }},
    {"vtpmd-silence", "begin a frame and fall silent",
     [](Scene& s) {
         return send_raw(s, wire::frame_prefix({16, 1UL << 20}));
     }},
    {"vtpmd-ready", "report without an end that it is ready",
     [](Scene& s) { return reports(s, [](auto& report) { report.mutable_ready(); }); }},
    {"vtpmd-failures", "report without an end that it has failed, in words for a terminal",
     [](Scene& s) { return reports(s, failing); }},
    {"vtpmd-attached", "report without an end that it has its manager again",
     [](Scene& s) { return reports(s, [](auto& report) { report.mutable_attached(); }); }},
    {"vtpmd-standing", "tell without an end where it stands",
     [](Scene& s) {
         return reports(s, [](auto& report) { report.mutable_standing()->set_question(1); });
     }},
    {"vtpmd-out-of-turn", "hand over a state that nobody asked for",
     [](Scene& s) { return reports(s, [](auto& report) { report.mutable_handed_over(); }); }},
};

// What one of them does to the others is measured. Each ends with its process.
[[noreturn]] void keep_writing(Scene& scene, std::size_t size) {
    wire::Channel channel{Fd(scene.seat.manager_fd)};
    wire::proto::EngineRequest load;
    load.mutable_load();
    std::uint64_t sequence = 0;
    if (channel.send(load)) {
        if (const auto frame = channel.receive(30s)) {
            const auto reply = wire::parse<wire::proto::EngineReply>(*frame);
            sequence = reply ? reply->loaded().sequence() : 0;
        }
    }
    Bytes state(size, 0x5A);
    for (;; ++sequence) {
        ++state[sequence % state.size()];
        if (!channel.send(commit_of(sequence, state.size()), state) || !channel.receive(60s))
            ::_exit(1);
    }
}

[[noreturn]] void keep_everybody_busy(Scene& scene) {
    const std::string line(100, 'x');
    const auto text = line + "\n";
    for (;;) {
        (void)!::write(STDERR_FILENO, text.data(), text.size());
        scene.seat.page().publish(0);
    }
}

const Escape flood_list[] = {
    {"flood-small", "writes of its state, each as soon as it may",
     [](Scene& s) -> std::string { keep_writing(s, 1000); }},
    {"flood-large", "writes of 512 KiB, each as soon as it may",
     [](Scene& s) -> std::string { keep_writing(s, 512UL << 10); }},
    {"flood-lines", "lines for the journal, without a pause",
     [](Scene& s) -> std::string { keep_everybody_busy(s); }},
};

}  // namespace

std::span<const Escape> doorman() {
    return list;
}

std::span<const Escape> floods() {
    return flood_list;
}

}  // namespace vtpm::drill
