// A conquered engine's reports to its vtpmd, and a vtpmmgrd's answers: GuestTpm and ManagerClient
// with real processes and sockets, the engine being a stand-in that says what the input says.
//
// Whatever they say, a guest whose TPM has run gets no fresh one before its power is cut.
#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <csignal>
#include <mutex>
#include <thread>

#include "fakes/chip/swtpm.h"
#include "guest_tpm.h"
#include "input.h"
#include "vtpm/base/log.h"

using namespace vtpm;
using namespace vtpm::doorman;
using namespace vtpm::wire::proto;
using fuzz::Input;
using fuzz::must;

namespace {

Bytes frame(const google::protobuf::MessageLite& message, ByteView payload = {}) {
    const std::string text = message.SerializeAsString();
    return ByteWriter()
        .bytes(wire::frame_prefix({text.size(), payload.size()}))
        .bytes(as_bytes(text))
        .bytes(payload)
        .take();
}

struct Engine {
    Fd script;           // and what vtpmd said, to be read once it has ended
    bool ready = false;  // it says Ready, first of all
};

Bytes report(Input& input, unsigned kind) {
    Report report;
    switch (kind) {
        case 0:
            report.mutable_ready()->set_manufactured(input.flag());
            break;
        case 1:
            report.mutable_quiesced()->set_commands(input.u64());
            break;
        case 2:
            report.mutable_handed_over();
            return frame(report, Bytes(input.rarely() ? 0 : 40, 0x5a));
        case 3:
            report.mutable_powered_off();
            break;
        default:
            report.mutable_failure()->set_code("corrupt");
            report.mutable_failure()->set_context("no");
    }
    return frame(report);
}

// What the next engine will do, on its own descriptor.
Engine prepare(Input& input, Fd& for_vtpmd) {
    auto pair = stream_socket_pair().value();
    Bytes script;
    const auto step = [&](std::uint8_t what, const Bytes& bytes) {
        const auto size = static_cast<std::uint32_t>(bytes.size());
        script.push_back(what);
        for (unsigned i = 0; i < 4; ++i)
            script.push_back(static_cast<std::uint8_t>(size >> (8 * i)));
        script.insert(script.end(), bytes.begin(), bytes.end());
    };
    step(1, {});  // PowerOn
    const bool usual = !input.rarely();
    step(0, usual ? report(input, 0) : input.rarely_changed(report(input, input.u8() % 5U)));
    for (unsigned i = 0, n = static_cast<unsigned>(input.pick(4)); i < n; ++i) {
        if (!input.rarely())
            step(1, {});  // the next order
        else
            step(2, input.bytes(200));
        step(0, input.rarely_changed(report(input, 1 + (input.rarely() ? input.u8() : i) % 3U)));
    }
    if (input.flag())
        step(1, {});
    must(write_all(pair.first.get(), script).has_value(), "no script");
    ::shutdown(pair.first.get(), SHUT_WR);
    for_vtpmd = std::move(pair.second);
    return {std::move(pair.first), usual};
}

// Answers on a thread of its own, by an input of its own.
class FakeManager {
  public:
    FakeManager(const std::string& path, Bytes bytes) : bytes_(std::move(bytes)) {
        const auto address = fakes::socket_address(path);
        must(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) == 0 &&
                 ::listen(listening_.get(), 16) == 0,
             "nobody listens");
        thread_ = std::thread([this] { serve(); });
    }
    void end() {
        ::shutdown(listening_.get(), SHUT_RDWR);
        thread_.join();
    }

    std::size_t count() {
        const std::lock_guard lock(mutex_);
        return engines_.size();
    }
    bool newest_is_ready() {
        const std::lock_guard lock(mutex_);
        return !engines_.empty() && engines_.back().ready;
    }
    std::vector<Engine> engines() { return std::move(engines_); }  // after end()

  private:
    void serve() {
        Input input(bytes_.data(), bytes_.size());
        for (;;) {
            Fd client(::accept(listening_.get(), nullptr, nullptr));
            if (!client.valid())
                return;
            wire::Channel channel(std::move(client));
            while (answer(channel, input)) {
            }
        }
    }
    bool answer(wire::Channel& channel, Input& input) {
        const auto asked = channel.receive(std::chrono::seconds(60));
        const auto request = asked ? wire::parse<Request>(*asked) : fail(Errc::malformed, "");
        if (!request)
            return false;
        Reply reply;
        if (input.rarely()) {
            reply.mutable_instance()->set_name(input.text(20));
            reply.mutable_instance()->set_tpm(input.u8());
            if (input.flag())
                reply.mutable_failure()->set_code("in_use");
            (void)write_all(channel.fd(), input.changed(frame(reply)));
            return false;
        }
        if (!request->has_attach_engine()) {
            reply.mutable_instance()->set_name("web1");
            reply.mutable_instance()->set_tpm(2);
            return channel.send(reply).has_value();
        }
        Fd descriptor;
        {
            const std::lock_guard lock(mutex_);
            engines_.push_back(prepare(input, descriptor));
        }
        reply.mutable_attached();
        return channel.send(reply, {}, descriptor.get()).has_value();
    }

    Bytes bytes_;
    Fd listening_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::mutex mutex_;
    std::vector<Engine> engines_;
    std::thread thread_;
};

bool readable(int fd, int milliseconds) {
    pollfd ready{fd, POLLIN, 0};
    return fd >= 0 && ::poll(&ready, 1, milliseconds) == 1;
}

// What an engine says for the journal must not be more there than one line of plain text.
class Journal final : public spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg& line) override {
        for (const char c : line.payload)
            must(c >= ' ' && c <= '~', "a line in the journal that is not text");
    }
    void flush_() override {}
};

// What happened, told by how many engines there had been by then.
struct Life {
    std::vector<std::size_t> ran;     // the newest one's TPM ran
    std::vector<std::size_t> off_at;  // power was cut

    void check(const std::vector<Engine>& engines) const {
        for (std::size_t i = 0; i < engines.size(); ++i) {
            wire::Channel said(engines[i].script.duplicate().value());
            const auto first = said.receive(std::chrono::milliseconds(0));
            const auto order = first ? wire::parse<Order>(*first) : fail(Errc::malformed, "");
            if (!order)
                continue;
            must(order->has_power_on(), "the first order is another than to power on");
            if (order->power_on().failed() || !first->payload.empty())
                continue;
            std::size_t off = 0;
            for (const std::size_t at : off_at)
                off = at <= i ? std::max(off, at) : off;
            for (const std::size_t at : ran)
                must(at <= off || at > i, "a guest gets a fresh TPM in the middle of its life");
        }
    }
};

// What vtpmd does, one event after another.
class Guest {
  public:
    Guest(Input& input, const std::string& directory, const std::string& socket, FakeManager& world,
          Life& life)
        : input_(input),
          world_(world),
          life_(life),
          manager_(socket, SecretBytes(16)),
          tpm_({7, 0}, manager_, STAND_IN, PowerRecord(directory, {7, 0}), LifeRecord(directory, 7),
               store_) {
        if (const auto opened = manager_.open(Uuid(), {7, 0}))
            tpm_.opened(Uuid(), *opened, xen::Beginning::created, std::nullopt);
    }

    void act() {
        switch (input_.pick(6)) {
            case 0:
            case 1:
                if (!std::exchange(connected_, true))
                    connected_ = fresh_ = tpm_.connect({7, 8, 12}).has_value();
                break;
            case 2:
                disconnect();
                break;
            case 3:
                if (readable(manager_.fd(), 0))
                    tpm_.on_manager();
                break;
            case 4:
                tpm_.tick(GuestTpm::Clock::now() + std::chrono::seconds(10));
                break;
            default:
                if (input_.rarely()) {
                    disconnect();
                    tpm_.power_off({xen::DomainState::shutdown, xen::ShutdownReason::power_off});
                    life_.off_at.push_back(world_.count());
                }
        }
        // Mostly each event at once; now and then the next one is there before.
        if (input_.pick(4) == 3)
            return;
        tpm_.on_log(GuestTpm::Clock::now());
        if (!readable(tpm_.engine_fd(), std::exchange(fresh_, false) ? 100 : 1))
            return;
        tpm_.on_engine();
        note_running();
    }

  private:
    void disconnect() {
        if (!std::exchange(connected_, false))
            return;
        tpm_.disconnect();
        note_running();
    }
    // Its Ready was the first that came, and what came after it did not end it.
    void note_running() {
        if (tpm_.engine_fd() >= 0 && world_.newest_is_ready())
            life_.ran.push_back(world_.count());
    }

    Input& input_;
    FakeManager& world_;
    Life& life_;
    ManagerClient manager_;
    DescriptorStore store_;
    GuestTpm tpm_;
    bool connected_ = false;
    bool fresh_ = false;  // an engine that will say something soon
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("journal", std::make_shared<Journal>()));
    ::signal(SIGPIPE, SIG_IGN);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const fakes::TemporaryDirectory directory;
    const std::string socket = directory.path() / "manager";
    const Bytes for_manager(data, data + size / 2);
    Input input(data + size / 2, size - size / 2);
    FakeManager world(socket, for_manager);
    Life life;
    {
        Guest guest(input, directory.path().string(), socket, world, life);
        for (int turn = 0; turn < 24 && !input.empty(); ++turn)
            guest.act();
    }
    world.end();
    life.check(world.engines());
    return 0;
}
