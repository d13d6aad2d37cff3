// load() and store().
#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a new instance is fresh, and one that was stored never is again") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    for (int i = 0; i < 2; ++i) {
        const auto fresh = f.vault->load(a);
        REQUIRE(fine(fresh));
        CHECK(fresh->sequence == 0);
        CHECK(fresh->blobs.empty());
        f.reopen_unlocked();
    }
    CHECK(f.stored(a, 0, "one") == 1);
    CHECK(f.stored(a, 1, "two") == 2);
    for (int i = 0; i < 2; ++i) {
        const auto state = f.vault->load(a);
        REQUIRE(fine(state));
        CHECK(state->sequence == 2);
        CHECK(blob_of(*state, BlobKind::permanent) == "two");
        CHECK(f.vault->get(a)->sequence == 2);
        CHECK(f.vault->get(a)->bytes == 3);
        CHECK(f.vault->get(a)->committed > 0);
        CHECK(f.vault->status().last_commit == f.vault->get(a)->committed);
        f.reopen_unlocked();
    }
}

TEST_CASE("kinds are changed one by one or together") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    std::vector<BlobChange> changes;
    changes.push_back({BlobKind::saved, secret_of("saved")});
    changes.push_back({BlobKind::permanent, secret_of("permanent")});
    changes.push_back({BlobKind::volatile_state, secret_of("volatile")});
    REQUIRE(fine(f.vault->store(a, 0, changes)));
    CHECK(f.vault->get(a)->bytes == 5 + 9 + 8);
    auto state = f.vault->load(a);
    REQUIRE(fine(state));
    REQUIRE(state->blobs.size() == 3);
    CHECK(state->blobs[0].first == BlobKind::permanent);
    CHECK(state->blobs[2].first == BlobKind::saved);

    changes.clear();
    changes.push_back({BlobKind::volatile_state, {}});
    changes.push_back({BlobKind::saved, secret_of("s")});
    REQUIRE(fine(f.vault->store(a, 1, changes)));
    f.reopen_unlocked();
    state = f.vault->load(a);
    REQUIRE(fine(state));
    CHECK(state->sequence == 2);
    CHECK(blob_of(*state, BlobKind::permanent) == "permanent");
    CHECK_FALSE(blob_of(*state, BlobKind::volatile_state));
    CHECK(blob_of(*state, BlobKind::saved) == "s");
    CHECK(f.vault->get(a)->bytes == 9 + 1);

    changes.clear();
    changes.push_back({BlobKind::volatile_state, {}});  // is not there: the same afterwards
    CHECK(fine(f.vault->store(a, 2, changes)));
}

TEST_CASE("stores that make no sense") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const auto refused = [&](std::uint64_t expected, std::vector<BlobChange> changes) {
        return error_of(f.vault->store(a, expected, changes));
    };
    const auto one = [](BlobKind kind, std::optional<SecretBytes> content) {
        std::vector<BlobChange> changes;
        changes.push_back({kind, std::move(content)});
        return changes;
    };
    CHECK(refused(0, {}) == Errc::invalid_argument);
    CHECK(refused(0, one(BlobKind::volatile_state, secret_of("v"))) == Errc::invalid_argument);
    CHECK(refused(0, one(BlobKind::permanent, std::nullopt)) == Errc::invalid_argument);
    CHECK(refused(0, one(BlobKind::permanent, SecretBytes())) == Errc::invalid_argument);
    CHECK(refused(0, one(static_cast<BlobKind>(4), secret_of("x"))) == Errc::invalid_argument);
    CHECK(refused(0, one(static_cast<BlobKind>(0), secret_of("x"))) == Errc::invalid_argument);
    CHECK(refused(0, one(BlobKind::permanent, SecretBytes(Vault::max_blob_size + 1))) ==
          Errc::too_large);
    auto twice = permanent("x");
    twice.push_back({BlobKind::permanent, secret_of("y")});
    CHECK(refused(0, std::move(twice)) == Errc::invalid_argument);
    CHECK(f.vault->load(a)->sequence == 0);
    CHECK(error_of(f.vault->store(Uuid::random(), 0, permanent("x"))) == Errc::not_found);

    REQUIRE(
        fine(f.vault->store(a, 0, one(BlobKind::permanent, SecretBytes(Vault::max_blob_size)))));
    f.reopen_unlocked();
    CHECK(f.vault->load(a)->blobs[0].second.size() == Vault::max_blob_size);
    CHECK(refused(1, one(BlobKind::permanent, std::nullopt)) == Errc::invalid_argument);
}

TEST_CASE("the order of stores; an exact repeat of the last is answered as before") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    CHECK(error_of(f.vault->store(a, 1, permanent("x"))) == Errc::out_of_order);
    CHECK(error_of(f.vault->store(a, ~0ULL, permanent("x"))) == Errc::out_of_order);
    CHECK(f.stored(a, 0, "one") == 1);
    for (int i = 0; i < 2; ++i) {
        CHECK(f.stored(a, 0, "one") == 1);
        CHECK(error_of(f.vault->store(a, 0, permanent("uno"))) == Errc::out_of_order);
        auto more = permanent("one");
        more.push_back({BlobKind::saved, {}});
        CHECK(error_of(f.vault->store(a, 0, more)) == Errc::out_of_order);
        f.reopen_unlocked();  // the repeat is known over a restart
    }
    auto both = permanent("two");
    both.push_back({BlobKind::saved, secret_of("s")});
    REQUIRE(fine(f.vault->store(a, 1, both)));
    std::swap(both[0], both[1]);
    CHECK(*f.vault->store(a, 1, both) == 2);  // the same changes in another order
    CHECK(error_of(f.vault->store(a, 0, permanent("one"))) == Errc::out_of_order);
    CHECK(error_of(f.vault->store(a, 3, permanent("three"))) == Errc::out_of_order);
    CHECK(f.loaded(a) == "two");
    CHECK(f.vault->load(a)->sequence == 2);
    CHECK(f.vault->store(a, 5, permanent("x")).error().next == NextAction::stop);
}

TEST_CASE("equal states are not equal on the disk, and no state is there in clear") {
    Fixture f;
    f.set_up();
    const std::string text(200, 'A');
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, text);
    f.stored(b, 0, text);
    f.stored(a, 1, text);
    f.close();
    const Bytes disk = slurp(f.database());
    const std::string_view view(reinterpret_cast<const char*>(disk.data()), disk.size());
    CHECK(view.find("AAAAAAAA") == std::string_view::npos);
    f.reopen_unlocked();
    CHECK(f.loaded(a) == text);
    CHECK(f.loaded(b) == text);
}

TEST_CASE("the log is bounded by idle(), and nothing is lost to it") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const auto log = f.directory() / "vault.db-wal";
    std::uint64_t sequence = 0;
    for (int i = 0; i < 600; ++i) {
        sequence = f.stored(a, sequence, "state " + std::to_string(i) + std::string(2000, 'x'));
    }
    const auto before = std::filesystem::file_size(log);
    CHECK(before > 4'194'304);
    REQUIRE(fine(f.vault->idle()));
    CHECK(std::filesystem::file_size(log) == 4'194'304);
    sequence = f.stored(a, sequence, "last");
    REQUIRE(fine(f.vault->idle()));
    REQUIRE(fine(f.vault->idle()));
    CHECK(f.loaded(a) == "last");
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "last");
}

// A file that grows costs each write a commit of the file system's own journal.
TEST_CASE("the log is made once and then written over") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const auto log = f.directory() / "vault.db-wal";
    REQUIRE(fine(f.vault->commit_due()));
    CHECK(std::filesystem::file_size(log) == 4'194'304);
    std::uint64_t sequence = 0;
    for (int i = 0; i < 2000; ++i) {
        sequence = f.stored(a, sequence, "state " + std::to_string(i) + std::string(2000, 'x'));
        REQUIRE(fine(f.vault->commit_due()));
    }
    CHECK(std::filesystem::file_size(log) == 4'194'304);
    f.reopen_unlocked();
    CHECK(f.loaded(a).starts_with("state 1999x"));
}

TEST_CASE("the chip may be gone while the vault is open") {
    Fixture f;
    f.set_up();
    f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
    const Uuid a = f.made("a");
    f.stored(a, 0, "state");
    CHECK(f.loaded(a) == "state");
    CHECK(fine(f.vault->remove(a)));
}
