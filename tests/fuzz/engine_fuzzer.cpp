// An engine between three others, each of which may be hostile: a guest on the ring, vtpmd with its
// orders, vtpmmgrd with its answers. Service and all below it, libtpms too, but not the jail.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>

#include "fakes/tpm_commands.h"
#include "fakes/xen/ordinary_page.h"
#include "input.h"
#include "service.h"
#include "vtpm/base/log.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/tpm/message.h"

using namespace vtpm;
using namespace vtpm::wire::proto;
using fuzz::Input;
using fuzz::must;

namespace {

namespace v20 = tpm_commands::v20;

Bytes frame(const google::protobuf::MessageLite& message, ByteView payload = {}) {
    const std::string text = message.SerializeAsString();
    return ByteWriter()
        .bytes(wire::frame_prefix({text.size(), payload.size()}))
        .bytes(as_bytes(text))
        .bytes(payload)
        .take();
}

// All of it but the payload.
Bytes head_of(const google::protobuf::MessageLite& message, ByteView payload) {
    Bytes all = frame(message, payload);
    all.resize(all.size() - payload.size());
    return all;
}

// The other end of a socket: it has said everything before anybody listens, and then is gone.
class Said {
  public:
    explicit Said(const Bytes& all) {
        auto pair = stream_socket_pair().value();
        ours_ = std::move(pair.first);
        theirs = std::move(pair.second);
        constexpr int room = 4 << 20;
        ::setsockopt(ours_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
        must(write_all(ours_.get(), all).has_value(), "nothing is said");
        ::shutdown(ours_.get(), SHUT_WR);
        ::fcntl(ours_.get(), F_SETFL, O_NONBLOCK);
    }
    Fd theirs;

    // What was said to it.
    template <typename Message>
    std::vector<Message> heard() {
        std::vector<Message> messages;
        wire::Channel channel(std::move(ours_));
        while (const auto next = channel.receive(std::chrono::milliseconds(0))) {
            auto message = wire::parse<Message>(*next);
            must(message.has_value(), "a message that its reader cannot read");
            messages.push_back(std::move(*message));
        }
        return messages;
    }

  private:
    Fd ours_;
};

// The guest: its next command is on the page when the answer to the last one rings.
class Guest final : public xen::EventChannel {
  public:
    explicit Guest(Input& input) : input_(input), bell_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        command();
    }

    xen::OrdinaryPage page;
    unsigned answers = 0;

    int fd() const override { return bell_.get(); }
    Result<void> notify() override {
        const auto header = page.header();
        if (header.state == xen::tpmif::state::finish) {
            ++answers;
            const auto size = std::size_t{header.nr_extra_pages} == 0 ? header.length : 0;
            const auto parsed = tpm::parse_header(page.packet().first(std::max(size, 10U)));
            must(size == 0 || (parsed && parsed->size == size), "an answer of another size");
        }
        if (input_.rarely())
            return fail(Errc::io, "the guest is gone");
        command();
        return {};
    }
    Result<void> consume() override {
        eventfd_t ignored = 0;
        ::eventfd_read(bell_.get(), &ignored);
        return {};
    }

  private:
    void command() {
        if (input_.empty() || ++commands_ > 24)
            return;
        static const std::array commands = {v20::get_random(16), v20::pcr_read(16),
                                            v20::nv_define(8), v20::nv_write(Bytes(8, 0x77)),
                                            v20::nv_read(8)};
        Bytes command = input_.rarely_changed(input_.one_of(commands));
        command.resize(std::min(command.size(), page.packet().size()));
        std::copy(command.begin(), command.end(), page.packet().begin());
        const auto size = static_cast<std::uint32_t>(command.size());
        page.set_header({input_.rarely() ? input_.edgy() : size,
                         input_.rarely() ? input_.u8() : xen::tpmif::state::submit,
                         static_cast<std::uint8_t>(input_.rarely() ? input_.u8() : 0), 0,
                         static_cast<std::uint8_t>(input_.rarely() ? input_.u8() : 0)});
        ::eventfd_write(bell_.get(), 1);
    }

    Input& input_;
    Fd bell_;
    unsigned commands_ = 0;
};

const Bytes& permanent() {
    static const Bytes state = [] {
        engine::LibtpmsEngine tpm;
        must(tpm.power_on({tpm::Version::v2_0, true, {}, {}, {}}).has_value(), "no TPM is made");
        const auto changes = tpm.take_changes();
        const auto view = changes.at(0).content->view();
        return Bytes(view.begin(), view.end());
    }();
    return state;
}

// vtpmmgrd's: a state, then a line of acknowledgements.
Bytes answers(Input& input) {
    EngineReply reply;
    auto& loaded = *reply.mutable_loaded();
    Bytes payload = permanent();
    loaded.set_sequence(input.rarely() ? input.u64() : 1);
    auto& blob = *loaded.add_blob();
    blob.set_kind(1);
    blob.set_size(payload.size());
    loaded.set_seed(32);
    payload.resize(payload.size() + 32);
    const Bytes good = head_of(reply, payload);
    if (input.rarely())
        blob.set_kind(input.u8());
    if (input.rarely())
        blob.set_size(input.u64());
    if (input.rarely())
        loaded.set_seed(input.edgy());
    Bytes all = input.rarely_changed(head_of(reply, payload));
    // On a part of a state, or a shifted one, libtpms writes where it likes; fuzz-state has those,
    // in the jail.
    if (all != good)
        std::fill(payload.begin(), payload.end(), 0);
    all.insert(all.end(), payload.begin(), payload.end());
    for (std::uint64_t sequence = 2; sequence < 30; ++sequence) {
        EngineReply next;
        if (input.rarely()) {
            next.mutable_failure()->set_code(input.flag() ? "io" : "?");
            next.mutable_failure()->set_context("no");
        } else {
            next.mutable_committed()->set_sequence(input.rarely() ? input.u64() : sequence);
        }
        const Bytes bytes = input.rarely_changed(frame(next));
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
}

// vtpmd's: power, and the end of it.
Bytes orders(Input& input) {
    Order on;
    on.mutable_power_on()->set_tpm(input.rarely() ? input.u8() : 2);
    on.mutable_power_on()->set_failed(input.rarely());
    Bytes all = input.rarely_changed(frame(on, input.rarely() ? input.bytes(300) : Bytes()));
    for (std::size_t i = 1 + input.pick(3); i > 0; --i) {
        Order next;
        switch (input.pick(5)) {
            case 0:
                next.mutable_quiesce();
                break;
            case 1:
                next.mutable_hand_over();
                break;
            case 2:
                next.mutable_power_off();
                break;
            case 3:
                next.mutable_describe()->set_question(input.u64());
                break;
            default:
                next = on;
        }
        const Bytes bytes = input.rarely_changed(frame(next));
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    ::signal(SIGPIPE, SIG_IGN);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    Said doorman(orders(input));
    Said manager(answers(input));
    Guest guest(input);
    xen::BackRing ring(guest.page.page(), guest);
    engine_program::CancelWatcher watcher(ring, guest);
    wire::Channel channel(std::move(doorman.theirs));
    engine_program::StateClient state(std::move(manager.theirs));
    {
        engine_program::Service service({guest, ring, watcher}, channel, state);
        (void)service.run();
    }
    const auto reports = doorman.heard<Report>();
    for (std::size_t i = 0; i < reports.size(); ++i)
        must(reports[i].has_ready() ? i == 0 : reports[i].body_case() != Report::BODY_NOT_SET,
             "a report out of turn");
    if (guest.answers > 0)
        must(!reports.empty(), "a guest is served before vtpmd knows of it");
    for (const auto& request : manager.heard<EngineRequest>())
        must(request.has_load() || request.commit().blob_size() > 0, "a request of nothing");
    return 0;
}
