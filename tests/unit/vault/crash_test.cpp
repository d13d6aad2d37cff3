// Power cuts of the process, and disks that are full.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "fixture.h"
#include "small_files.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

std::string state_number(std::uint64_t number) {
    return "state " + std::to_string(number) + " " + std::string(1500, 'x');
}

// In the child: stores and acknowledges until it is killed.
[[noreturn]] void store_for_ever(Fixture& f, const Uuid& uuid, int acknowledge) {
    SqliteVault vault(f.directory(), f.chip);
    if (!vault.unlock())
        ::_exit(1);
    std::uint64_t sequence = vault.get(uuid)->sequence;
    for (;;) {
        const auto next = vault.store(uuid, sequence, permanent(state_number(sequence + 1)));
        if (!next)
            ::_exit(2);
        sequence = *next;
        if (!write_all(acknowledge, ByteWriter().u64(sequence).take()))
            ::_exit(3);
        if (sequence % 13 == 0 && !vault.idle())
            ::_exit(4);
        if (sequence % 29 == 0) {  // which wipes the log
            const auto other = vault.create({"other", 2, {}});
            if (!other || !vault.remove(other->uuid))
                ::_exit(5);
        }
    }
}

}  // namespace

TEST_CASE("a killed process loses nothing that was acknowledged") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, state_number(1));
    std::minstd_rand random(4711);
    std::uint64_t acknowledged = 1;
    for (int round = 0; round < 25; ++round) {
        f.close();
        int pipe[2];
        REQUIRE(::pipe(pipe) == 0);
        const pid_t child = ::fork();
        if (child == 0) {
            ::close(pipe[0]);
            store_for_ever(f, a, pipe[1]);
        }
        ::close(pipe[1]);
        const Fd acks(pipe[0]);
        // Not before its first store, then at any time within 30 ms.
        pollfd ready{acks.get(), POLLIN, 0};
        REQUIRE(::poll(&ready, 1, 20'000) == 1);
        ::usleep(static_cast<useconds_t>(random() % 30'000));
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        REQUIRE(WIFSIGNALED(status));
        std::array<std::uint8_t, 8> ack{};
        while (read_exactly(acks.get(), ack))
            acknowledged = *ByteReader(ack).u64();

        f.reopen_unlocked();
        const auto state = f.vault->load(a);
        REQUIRE(fine(state));
        // The last store may have become durable without its acknowledgement.
        CHECK(state->sequence >= acknowledged);
        CHECK(state->sequence <= acknowledged + 1);
        CHECK(blob_of(*state, BlobKind::permanent) == state_number(state->sequence));
        acknowledged = state->sequence;
        if (const auto other = f.vault->find("other"))
            REQUIRE(fine(f.vault->remove(other->uuid)));
    }
    CHECK(acknowledged > 30);
}

TEST_CASE("a full disk refuses a store, and the vault goes on when there is space") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "one");
    REQUIRE(fine(f.vault->idle()));

    constexpr rlim_t small = 64UL * 1024;
    const auto big = [] {
        std::vector<BlobChange> changes;
        changes.push_back({BlobKind::permanent, SecretBytes(200 * 1024)});
        return changes;
    };
    for (std::uint64_t round = 0; round < 3; ++round) {
        const auto refused = with_small_files(small, [&] { return f.vault->store(a, 1, big()); });
        const auto created = with_small_files(small, [&] { return f.vault->create({"c", 2, {}}); });
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::io);
        CHECK(refused.error().next == NextAction::retry_later);
        CHECK(f.loaded(a) == "one");
        CHECK(f.vault->get(a)->sequence == 1);
        if (created)
            REQUIRE(fine(f.vault->remove(created->uuid)));
        CHECK(f.stored(b, round, state_number(9)) == round + 1);
    }
    CHECK(fine(f.vault->store(a, 1, big())));
    const auto housekeeping = with_small_files(small, [&] { return f.vault->idle(); });
    CHECK(error_of(housekeeping) == Errc::io);
    CHECK(fine(f.vault->idle()));
    f.reopen_unlocked();
    CHECK(f.vault->load(a)->blobs[0].second.size() == 200 * 1024);
    CHECK(f.loaded(b) == state_number(9));
}

// An instance without its state would be taken for a new TPM. Every write of the database is a
// moment at which the disk may be full or the power may fail.
TEST_CASE("an instance made with a state is there with it or not at all") {
    bool refused = false;
    bool made = false;
    for (rlim_t kib = 16; kib <= 256 && !made; kib += 4) {
        Fixture f;
        f.set_up();
        REQUIRE(fine(f.vault->idle()));
        const auto created = with_small_files(
            kib * 1024, [&] { return f.vault->create(moving_in("a", SecretBytes(60 * 1024))); });
        refused = refused || !created;
        made = created.has_value();
        f.reopen_unlocked();
        INFO("files of at most " << kib << " KiB");
        const auto left = f.vault->find("a");
        CHECK(left.has_value() == made);
        if (!left)
            continue;
        const auto state = f.vault->load(left->uuid);
        REQUIRE(fine(state));
        CHECK(state->sequence == 1);
        CHECK(state->blobs.size() == 1);
    }
    CHECK(refused);
    CHECK(made);
}
