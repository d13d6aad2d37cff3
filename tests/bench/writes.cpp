#include <atomic>
#include <cstdio>
#include <deque>
#include <functional>
#include <thread>

#include "bare_disk.h"
#include "compare.h"
#include "fakes/tpm_commands.h"
#include "measure.h"
#include "swtpm_socket.h"
#include "vtpm/tpm/message.h"
#include "vtpm/wire/channel.h"

namespace vtpm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;
namespace v20 = tpm_commands::v20;

constexpr int rounds = 40;
constexpr int in_a_round = 20;
constexpr auto measured_time = 3s;
constexpr std::size_t state_size = 1370;  // of a TPM 2.0 with one small index, as libtpms writes it

bool succeeded(const Bytes& answer) {
    const auto header = tpm::parse_header(answer);
    return header && header->code == 0;
}

struct Writer {
    const char* name;
    std::function<void()> prepare;  // outside the measured time
    std::function<void()> write;
};

void take_turns(const std::vector<Writer>& paths) {
    std::vector<std::vector<double>> samples(paths.size());
    for (int round = 0; round < rounds; ++round) {
        for (std::size_t p = 0; p < paths.size(); ++p) {
            for (int i = 0; i <= in_a_round; ++i) {
                paths[p].prepare();
                const auto begin = Clock::now();
                paths[p].write();
                const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
                if (i > 0)  // the first one wakes the path up
                    samples[p].push_back(took.count());
            }
        }
    }
    std::printf("%-52s %8s %8s %8s\n", "NV_Write(32) and the bare disk, us", "p50", "p90", "p99");
    for (std::size_t p = 0; p < paths.size(); ++p) {
        std::printf("%-52s %8.1f %8.1f %8.1f\n", paths[p].name, percentile(samples[p], 0.5),
                    percentile(samples[p], 0.9), percentile(samples[p], 0.99));
    }
}

void single_writes(fakes::SimHost& host) {
    const Uuid uuid = host.create(tpm::Version::v2_0);
    fakes::SimGuest guest(host, 1, uuid);
    require(guest.boot(), "the guest does not boot: " + guest.refusal());
    const fakes::Swtpm swtpm(host.directory() / "peer");
    const SwtpmSocket socket(swtpm);
    BareDisk disk(host.directory() / "disk");
    auto& ring = guest.front().ring();
    require(succeeded(guest.transmit(v20::nv_define(32))), "no index");
    require(succeeded(socket.transmit(v20::nv_define(32))), "no index");

    Bytes command;
    const auto next = [&] { command = changing_write(); };
    const auto check = [](const Bytes& answer) { require(succeeded(answer), "no success"); };
    const auto before = host.show(uuid).sequence();
    take_turns({
        {"guest, durable and sealed; front end spinning", next,
         [&] { check(fakes::transmit(ring, command, true)); }},
        {"guest, durable and sealed; front end blocking", next,
         [&] { check(fakes::transmit(ring, command)); }},
        {"swtpm, no fsync", next, [&] { check(socket.transmit(command)); }},
        {"bare disk: 4 KiB overwritten, fdatasync", [] {}, [&] { disk.overwrite(); }},
        {"bare disk: 4 KiB to a new file, fsync, rename", [] {}, [&] { disk.replace(); }},
    });
    require(host.show(uuid).sequence() - before == 2ULL * rounds * (in_a_round + 1),
            "not every write was committed");
    require(guest.destroy(), "the guest does not go");
}

// Writes by all of them, each as fast as it gets its answers; per second.
double guests_at_once(std::deque<fakes::SimGuest>& guests, std::size_t writers) {
    std::atomic<bool> end = false;
    std::atomic<std::uint64_t> written = 0;
    std::atomic<bool> well = true;
    std::vector<std::thread> threads;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < writers; ++i) {
        threads.emplace_back([&, &guest = guests[i]] {
            while (!end && well) {
                if (!succeeded(guest.transmit(changing_write())))
                    well = false;
                ++written;
            }
        });
    }
    std::this_thread::sleep_for(measured_time);
    end = true;
    for (auto& thread : threads)
        thread.join();
    const std::chrono::duration<double> took = Clock::now() - begin;
    require(well, "a write failed");
    return static_cast<double>(written) / took.count();
}

// An engine's end of its channel, without an engine: what vtpmmgrd can take.
class Channel {
  public:
    Channel(fakes::SimHost& host, std::uint32_t domain)
        : doorman_(connect(host.socket())), engine_(attach(host, domain)) {
        wire::proto::EngineRequest load;
        load.mutable_load();
        require(engine_.send(load).has_value() && engine_.receive(10s).has_value(), "no state");
    }
    int fd() const { return engine_.fd(); }

    void send() {
        wire::proto::EngineRequest request;
        request.mutable_commit()->set_sequence(sequence_);
        auto& blob = *request.mutable_commit()->add_blob();
        blob.set_kind(1);
        blob.set_size(state_.size());
        ++state_[sequence_++ % state_.size()];
        require(engine_.send(request, state_).has_value(), "no commit");
    }
    void receive() {
        const auto frame = engine_.receive(10s);
        require(frame.has_value(), "no answer");
        const auto reply = wire::parse<wire::proto::EngineReply>(*frame);
        require(reply && reply->committed().sequence() == sequence_, "not committed");
    }

  private:
    static wire::Channel connect(const std::string& socket) {
        auto connected = wire::connect_to(socket);
        require(connected.has_value(), "no vtpmmgrd");
        return wire::Channel(std::move(*connected));
    }
    Fd ask(const wire::proto::Request& request) {
        require(doorman_.send(request).has_value(), "no request");
        auto frame = doorman_.receive_with_descriptor(10s);
        require(frame.has_value(), "no reply");
        const auto reply = wire::parse<wire::proto::Reply>(*frame);
        require(reply && !reply->has_failure(), "refused");
        return std::move(frame->descriptor);
    }
    Fd attach(fakes::SimHost& host, std::uint32_t domain) {
        const Uuid uuid = host.create(tpm::Version::v2_0);
        wire::proto::Request request;
        request.set_protocol(wire::protocol_version);
        auto& open = *request.mutable_open();
        open.set_uuid(uuid.bytes().data(), Uuid::size);
        open.set_domain(domain);
        (void)ask(request);
        request.mutable_attach_engine();
        return ask(request);
    }

    wire::Channel doorman_;
    wire::Channel engine_;
    std::uint64_t sequence_ = 0;
    Bytes state_ = Bytes(state_size, 0x5A);
};

double channels_at_once(std::deque<Channel>& channels, std::size_t writers) {
    std::vector<pollfd> wanted;
    for (std::size_t i = 0; i < writers; ++i) {
        wanted.push_back({channels[i].fd(), POLLIN, 0});
        channels[i].send();
    }
    std::uint64_t written = 0;
    const auto begin = Clock::now();
    for (std::size_t left = writers; left > 0;) {
        require(::poll(wanted.data(), wanted.size(), 10'000) > 0, "no answers");
        const bool more = Clock::now() - begin < measured_time;
        for (std::size_t i = 0; i < writers; ++i) {
            if (wanted[i].revents == 0)
                continue;
            channels[i].receive();
            ++written;
            if (more) {
                channels[i].send();
            } else {
                wanted[i].fd = -1;
                --left;
            }
        }
    }
    const std::chrono::duration<double> took = Clock::now() - begin;
    return static_cast<double>(written) / took.count();
}

void many_writers(fakes::SimHost& host) {
    std::deque<fakes::SimGuest> guests;
    std::deque<Channel> channels;
    for (unsigned i = 0; i < 100; ++i) {
        auto& guest = guests.emplace_back(host, 2000 + i, host.create(tpm::Version::v2_0));
        guest.plug();
        guest.start_vtpmd();
        require(guest.announced() && guest.offer(), "no ring: " + guest.refusal());
        require(succeeded(guest.transmit(v20::nv_define(32))), "no index");
        channels.emplace_back(host, 3000 + i);
    }
    std::printf("\n%-52s %8s %8s %8s\n", "durable writes a second, writers at once:", "1", "10",
                "100");
    const auto line = [](const char* name, const auto& measure) {
        std::printf("%-52s", name);
        for (const std::size_t writers : {1U, 10U, 100U})
            std::printf(" %8.0f", measure(writers));
        std::printf("\n");
    };
    line("guests, with their engines",
         [&](std::size_t writers) { return guests_at_once(guests, writers); });
    line("engines' channels, without engines: vtpmmgrd alone",
         [&](std::size_t writers) { return channels_at_once(channels, writers); });
    for (auto& guest : guests)
        require(guest.destroy(), "a guest does not go");
}

void chip_commands(fakes::SimHost& host) {
    fakes::SimGuest guest(host, 2, host.create(tpm::Version::v2_0));
    require(guest.boot(), "the guest does not boot: " + guest.refusal());
    require(succeeded(guest.transmit(v20::nv_define(32))), "no index");
    const auto write = [&] {
        require(succeeded(guest.transmit(changing_write())), "a write failed");
    };
    (void)host.create(tpm::Version::v2_0);  // which begins an epoch
    const auto first = host.chip_commands();
    for (int i = 0; i < 50; ++i)
        write();
    const auto of_writes = host.chip_commands() - first;
    require(first > 0 && host.status().freshness().writes() == 50, "the epoch is not the same");
    const auto epoch = host.status().freshness().epoch();
    const auto before = host.chip_commands();
    for (int i = 0; i < 640; ++i)
        write();
    const auto epochs = host.status().freshness().epoch() - epoch;
    require(epochs > 0, "no epochs");
    std::printf(
        "\nchip commands of 50 writes inside an epoch: %llu; for each of %llu epochs: %.1f\n",
        static_cast<unsigned long long>(of_writes), static_cast<unsigned long long>(epochs),
        static_cast<double>(host.chip_commands() - before) / static_cast<double>(epochs));
    require(of_writes == 0, "a write asks the chip");
    require(guest.destroy(), "the guest does not go");
}

}  // namespace

void writes(fakes::SimHost& host) {
    single_writes(host);
    chip_commands(host);
    many_writers(host);
}

}  // namespace vtpm::bench
