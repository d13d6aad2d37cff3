#include "tpm_start.h"

#include <catch2/catch.hpp>
#include <thread>

#include "handed_over_state.h"
#include "suspended_state.h"
#include "vtpm/wire/channel.h"

using namespace vtpm;
using namespace vtpm::engine_program;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t long_ago = 1'000'000'000'000'000;  // 2001

// A TPM that keeps what it was started with.
class AttentiveTpm : public engine::Engine {
  public:
    Result<void> power_on(engine::PowerOn how) override {
        start = std::move(how);
        return {};
    }
    std::size_t execute(ByteView, std::uint8_t, MutableByteView) override { return 0; }
    void cancel() override {}
    std::vector<engine::StateBlob> take_changes() override { return {}; }
    Result<SecretBytes> volatile_state() override { return SecretBytes(1); }
    void power_off() override {}

    engine::PowerOn start;
};

// A vtpmmgrd whose vault has these.
class Vault {
  public:
    explicit Vault(std::vector<engine::StateBlob> blobs, std::uint64_t sequence = 5) {
        auto pair = stream_socket_pair().value();
        engine_end = std::move(pair.first);
        wire::Channel channel(std::move(pair.second));
        wire::proto::EngineReply reply;
        reply.mutable_loaded()->set_sequence(sequence);
        Bytes payload;
        for (const auto& [kind, content] : blobs) {
            auto& blob = *reply.mutable_loaded()->add_blob();
            blob.set_kind(static_cast<std::uint32_t>(kind));
            blob.set_size(content->size());
            payload.insert(payload.end(), content->view().begin(), content->view().end());
        }
        REQUIRE(channel.send(reply, payload));
        wire::proto::EngineReply committed;
        committed.mutable_committed()->set_sequence(sequence + 1);
        REQUIRE(channel.send(committed));
        rest_ = std::make_unique<wire::Channel>(std::move(channel));
    }
    Fd engine_end;

  private:
    std::unique_ptr<wire::Channel> rest_;
};

// `state` as it was made long ago.
SecretBytes old(const SecretBytes& state) {
    Bytes bytes(state.view().begin(), state.view().end());
    const auto time = ByteWriter().u64(long_ago).take();
    std::copy(time.begin(), time.end(), bytes.begin() + 12);
    return SecretBytes::copy_of(bytes);
}

}  // namespace

TEST_CASE("a TPM that goes on is told the time of day that it has seen") {
    std::vector<engine::StateBlob> blobs;
    blobs.push_back({engine::StateKind::permanent, SecretBytes::copy_of(Bytes(8, 1))});
    wire::proto::PowerOn order;
    SecretBytes handed_over;
    SECTION("handed over by the engine before") {
        handed_over = old(handed_over_state(5, SecretBytes::copy_of(Bytes(8, 2))));
    }
    SECTION("handed over, while something else was put by") {
        handed_over = old(handed_over_state(5, SecretBytes::copy_of(Bytes(8, 2))));
        blobs.push_back(suspended_state(3, SecretBytes::copy_of(Bytes(9, 3))));
    }
    SECTION("put by in the vault") {
        auto put_by = suspended_state(3, SecretBytes::copy_of(Bytes(8, 2)));
        put_by.content = old(*put_by.content);
        blobs.push_back(std::move(put_by));
        order.set_resume(true);
        order.set_life(3);
    }
    Vault vault(std::move(blobs));
    StateClient state(std::move(vault.engine_end));
    AttentiveTpm tpm;
    REQUIRE(start_tpm(tpm, state, tpm::Version::v1_2, order, handed_over));
    CHECK(tpm.start.time_of_day == long_ago);
    CHECK(tpm.start.volatile_state.size() == 8);
    CHECK(tpm.start.blobs.size() == 1);
}

TEST_CASE("a memory of a TPM that was never stored is none") {
    Vault vault({}, 0);
    StateClient state(std::move(vault.engine_end));
    AttentiveTpm tpm;
    const auto handed_over = handed_over_state(0, SecretBytes::copy_of(Bytes(8, 2)));
    const auto started = start_tpm(tpm, state, tpm::Version::v1_2, {}, handed_over);
    REQUIRE_FALSE(started);
    CHECK(started.error().code == Errc::corrupt);
    CHECK(tpm.start.volatile_state.empty());
}
