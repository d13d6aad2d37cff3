#include "command_server.h"

#include <array>
#include <catch2/catch.hpp>
#include <thread>

#include "fakes/tpm_commands.h"
#include "fakes/xen/fake_event_channel.h"
#include "vtpm/tpm/message.h"
#include "vtpm/wire/failure.h"
#include "vtpm/wire/messages.pb.h"

using namespace vtpm;
using namespace vtpm::engine_program;
using namespace std::chrono_literals;
using wire::proto::EngineReply;
using wire::proto::EngineRequest;

namespace {

// A TPM that writes its state when told to, and answers with success.
class ScriptedTpm : public engine::Engine {
  public:
    Result<void> power_on(engine::PowerOn) override { return {}; }
    std::size_t execute(ByteView, std::uint8_t locality, MutableByteView response) override {
        ++executed;
        last_locality = locality;
        const Bytes ok = from_hex("80010000000a00000000").value();
        std::copy(ok.begin(), ok.end(), response.begin());
        return ok.size();
    }
    void cancel() override {}
    std::vector<engine::StateBlob> take_changes() override {
        std::vector<engine::StateBlob> changes;
        if (next_content.empty())
            return changes;
        changes.push_back({engine::StateKind::permanent, SecretBytes::copy_of(next_content)});
        next_content.clear();
        return changes;
    }
    Result<SecretBytes> volatile_state() override { return SecretBytes(1); }
    void power_off() override {}

    int executed = 0;
    std::uint8_t last_locality = 0;
    Bytes next_content;
};

// vtpmmgrd's end of the channel, on a thread: answers each commit as told.
class ScriptedManager {
  public:
    ScriptedManager() {
        auto pair = stream_socket_pair().value();
        engine_end = std::move(pair.first);
        thread_ = std::thread([this, socket = std::move(pair.second)]() mutable {
            wire::Channel channel(std::move(socket));
            for (;;) {
                const auto frame = channel.receive(10s);
                if (!frame)
                    return;
                const auto request = wire::parse<EngineRequest>(*frame).value();
                EngineReply reply;
                if (refuse) {
                    *reply.mutable_failure() =
                        wire::to_message(Error{Errc::io, NextAction::retry_later, "disk full"});
                } else {
                    ++commits;
                    stored = Bytes(frame->payload.view().begin(), frame->payload.view().end());
                    reply.mutable_committed()->set_sequence(request.commit().sequence() + 1);
                }
                if (!channel.send(reply))
                    return;
            }
        });
    }
    void join() { thread_.join(); }

    Fd engine_end;
    std::atomic<bool> refuse = false;
    std::atomic<int> commits = 0;
    Bytes stored;

  private:
    std::thread thread_;
};

struct Bench {
    Bench() : state(std::make_unique<StateClient>(std::move(manager.engine_end))) {}
    ~Bench() {
        state.reset();
        manager.join();
    }

    std::uint32_t run(const Bytes& command, std::uint8_t locality = 0) {
        const auto size = server.handle(command, locality, response);
        return tpm::parse_header(ByteView(response).first(size)).value().code;
    }

    alignas(4096) std::array<std::uint8_t, 4096> memory{};
    decltype(xen::FakeEventChannel::pair()) events = xen::FakeEventChannel::pair();
    xen::BackRing ring{xen::SharedPage(memory.data()), *events.first};
    ScriptedManager manager;
    ScriptedTpm tpm;
    std::unique_ptr<StateClient> state;
    CancelWatcher watcher{ring, *events.first};
    CommandServer server{tpm::Version::v2_0, {.denied = {0x126}}, tpm, *state, watcher};
    std::array<std::uint8_t, 4088> response{};
};

const Bytes command = tpm_commands::v20::get_random(8);

}  // namespace

TEST_CASE("what needs no TPM does not reach it") {
    Bench bench;
    CHECK(bench.run(Bytes(9, 0)) == 0x142);
    Bytes too_long = command;
    too_long.push_back(0);
    CHECK(bench.run(too_long) == 0x142);
    CHECK(bench.run(Bytes(command.begin(), command.end() - 1)) == 0x142);
    CHECK(bench.run(command, 4) == 0x107);
    CHECK(bench.run(command, 255) == 0x107);
    const Bytes clear = from_hex("80010000000a00000126").value();
    CHECK(bench.run(clear) == 0x143);  // the policy denies it
    CHECK(bench.tpm.executed == 0);
    CHECK(bench.run(command, 3) == 0);
    CHECK(bench.tpm.last_locality == 3);
}

TEST_CASE("one commit for a command that changes something, none for one that does not") {
    Bench bench;
    CHECK(bench.run(command) == 0);
    CHECK(bench.manager.commits == 0);
    bench.tpm.next_content = Bytes{1, 2, 3};
    CHECK(bench.run(command) == 0);
    CHECK(bench.manager.commits == 1);
    CHECK(bench.manager.stored == Bytes{1, 2, 3});
}

TEST_CASE("a change that is not durable is an error to the guest, and is not forgotten") {
    Bench bench;
    bench.manager.refuse = true;
    bench.tpm.next_content = Bytes{1};
    CHECK(bench.run(command) == 0x923);  // TPM_RC_NV_UNAVAILABLE
    CHECK(bench.run(command) == 0);      // reading goes on
    CHECK(bench.manager.commits == 0);
    bench.manager.refuse = false;
    bench.tpm.next_content = Bytes{2};
    CHECK(bench.run(command) == 0);
    CHECK(bench.manager.commits == 2);  // the one that was refused for now comes first
    CHECK(bench.manager.stored == Bytes{2});
}

TEST_CASE("long commands are watched and end") {
    Bench bench;
    for (int i = 0; i < 200; ++i)
        CHECK(bench.run(tpm_commands::v20::create_primary_rsa(1)) == 0);
    CHECK(bench.tpm.executed == 200);
}
