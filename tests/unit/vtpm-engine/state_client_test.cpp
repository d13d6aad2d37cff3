#include "state_client.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <mutex>
#include <thread>

#include "vtpm/wire/failure.h"
#include "vtpm/wire/messages.pb.h"

using namespace vtpm;
using namespace vtpm::engine_program;
using namespace std::chrono_literals;
using engine::StateKind;

namespace {

// A vault of one instance, and the managers before it, one a channel.
struct Scene {
    ~Scene() {
        client = StateClient{Fd()};  // ends the manager's thread
        if (thread.joinable())
            thread.join();
    }

    // A manager that answers `answers` requests, carries out the next one and dies.
    Fd manager(int answers) {
        if (thread.joinable())
            thread.join();
        auto pair = stream_socket_pair().value();
        thread = std::thread([this, answers, socket = std::move(pair.second)]() mutable {
            wire::Channel channel(std::move(socket));
            for (int i = 0; i <= answers; ++i) {
                const auto frame = channel.receive(10s);
                if (!frame)
                    return;
                const auto reply = carry_out(*frame);
                const std::lock_guard busy(busy_disk);
                if (i == answers || !channel.send(reply))
                    return;
            }
        });
        return std::move(pair.first);
    }

    // As the vault does: in sequence, and an exact repeat of the last one is answered as it was.
    wire::proto::EngineReply carry_out(const wire::Frame& frame) {
        const auto commit = wire::parse<wire::proto::EngineRequest>(frame)->commit();
        const std::lock_guard lock(guard);
        const Bytes content(frame.payload.view().begin(), frame.payload.view().end());
        wire::proto::EngineReply reply;
        if (refuse) {
            *reply.mutable_failure() = wire::to_message(Error{Errc::io, refusal, "disk full"});
        } else if (commit.sequence() + 1 == sequence && content == stored.back()) {
            reply.mutable_committed()->set_sequence(sequence);
        } else if (commit.sequence() != sequence) {
            *reply.mutable_failure() =
                wire::to_message(Error{Errc::out_of_order, NextAction::stop, "not the next one"});
        } else {
            stored.push_back(content);
            reply.mutable_committed()->set_sequence(++sequence);
        }
        return reply;
    }

    Result<void> write(std::uint8_t value) {
        std::vector<engine::StateBlob> changes;
        changes.push_back({StateKind::permanent, SecretBytes::copy_of(Bytes{value})});
        return client.commit(std::move(changes), patience);
    }

    // Between two requests; what the manager's thread did before is seen.
    std::vector<Bytes>& kept() {
        const std::lock_guard lock(guard);
        return stored;
    }

    std::mutex guard;
    std::mutex busy_disk;  // while it is held no answer goes out
    std::chrono::milliseconds patience = 10s;
    std::atomic<std::uint64_t> sequence = 0;
    std::vector<Bytes> stored;
    std::atomic<bool> refuse = false;
    NextAction refusal = NextAction::retry_later;
    std::thread thread;
    StateClient client{manager(1)};
};

}  // namespace

TEST_CASE("a commit whose answer was lost is repeated as it was, before anything newer") {
    Scene scene;
    REQUIRE(scene.write(1));
    CHECK_FALSE(scene.write(2));  // on the disk, but nobody said so
    CHECK_FALSE(scene.write(3));
    CHECK_FALSE(scene.write(4));
    CHECK(scene.client.has_pending());
    CHECK(scene.client.attach(scene.manager(9), 10s));
    CHECK_FALSE(scene.client.has_pending());
    CHECK(scene.kept() == std::vector<Bytes>{{1}, {2}, {4}});
    CHECK(scene.write(5));
    CHECK(scene.sequence == 4);
}

TEST_CASE("a commit that did not arrive is sent again") {
    Scene scene;
    REQUIRE(scene.write(1));
    CHECK_FALSE(scene.write(2));
    scene.kept().pop_back();
    --scene.sequence;
    CHECK(scene.client.attach(scene.manager(9), 10s));
    CHECK(scene.kept() == std::vector<Bytes>{{1}, {2}});
}

TEST_CASE("where somebody else has written meanwhile nothing goes on") {
    Scene scene;
    REQUIRE(scene.write(1));
    CHECK_FALSE(scene.write(2));
    SECTION("once, in the place of ours") {
        scene.kept().back() = Bytes{9};
    }
    SECTION("more often") {
        scene.kept().push_back(Bytes{9});
        ++scene.sequence;
    }
    const auto before = scene.kept();
    CHECK_FALSE(scene.client.attach(scene.manager(9), 10s));
    CHECK_FALSE(scene.write(3));
    CHECK(scene.kept() == before);
    CHECK(scene.client.has_pending());
}

TEST_CASE("a commit that may be taken later is repeated as it was, before anything newer") {
    Scene scene;
    REQUIRE(scene.client.attach(scene.manager(9), 10s));
    scene.refuse = true;
    CHECK_FALSE(scene.write(1));
    CHECK_FALSE(scene.write(2));
    scene.refuse = false;
    CHECK(scene.write(3));
    CHECK(scene.kept() == std::vector<Bytes>{{1}, {3}});
}

TEST_CASE("a commit that was refused for good is joined by later changes") {
    Scene scene;
    scene.refusal = NextAction::refuse;
    scene.refuse = true;
    CHECK_FALSE(scene.write(1));
    scene.refuse = false;
    CHECK_FALSE(scene.write(2));  // carried out by a manager that dies
    CHECK(scene.client.attach(scene.manager(9), 10s));
    CHECK(scene.kept() == std::vector<Bytes>{{2}});
}

TEST_CASE("a channel in the place of a lost one serves the same commit") {
    Scene scene;
    int asked = 0;
    scene.client.on_loss([&]() -> std::optional<Fd> {
        ++asked;
        return scene.manager(9);
    });
    REQUIRE(scene.write(1));
    CHECK(asked == 0);
    CHECK(scene.write(2));
    CHECK(scene.write(3));
    CHECK(asked == 1);
    CHECK(scene.kept() == std::vector<Bytes>{{1}, {2}, {3}});
}

TEST_CASE("an answer that is late is waited for, and nothing is asked twice") {
    Scene scene;
    REQUIRE(scene.client.attach(scene.manager(9), 10s));
    scene.patience = 50ms;
    scene.busy_disk.lock();
    for (const std::uint8_t value : Bytes{1, 2, 3}) {
        const auto written = scene.write(value);
        REQUIRE_FALSE(written);
        CHECK(written.error().code == Errc::timeout);
        CHECK(scene.client.has_pending());
    }
    scene.patience = 10s;
    scene.busy_disk.unlock();
    CHECK(scene.write(4));
    CHECK(scene.kept() == std::vector<Bytes>{{1}, {4}});
    CHECK_FALSE(scene.client.has_pending());
}
