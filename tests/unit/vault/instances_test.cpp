// The list of instances.
#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("create, get, list, and all of it after a restart") {
    Fixture f;
    f.set_up();
    const auto b = f.vault->create({"b", 1, {}});
    const auto wanted = *Uuid::parse("01234567-89ab-cdef-0123-456789abcdef");
    const auto a = f.vault->create({"a", 2, wanted});
    REQUIRE(fine(a));
    REQUIRE(fine(b));
    CHECK(a->uuid == wanted);
    CHECK(a->tpm == 2);
    CHECK(a->state == InstanceState::live);
    CHECK(a->generation == 1);
    CHECK(a->sequence == 0);
    CHECK(a->committed == 0);
    CHECK(a->bytes == 0);
    CHECK(a->created > 1'600'000'000);
    CHECK_FALSE(a->group.is_nil());
    for (int i = 0; i < 2; ++i) {
        const auto list = f.vault->list();
        REQUIRE(fine(list));
        REQUIRE(list->size() == 2);
        CHECK((*list)[0].name == "a");
        CHECK((*list)[1].name == "b");
        CHECK((*list)[1].tpm == 1);
        CHECK(f.vault->get(wanted)->name == "a");
        CHECK(f.vault->status().instances == 2);
        f.reopen_unlocked();
    }
}

TEST_CASE("names and uuids that are refused") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    for (const std::string& name :
         {std::string(), std::string("-a"), std::string(".a"), std::string("a b"),
          std::string("a/b"), std::string("\xc3\xa4"), std::string("a\0b", 3), std::string(65, 'a'),
          std::string("01234567-89ab-cdef-0123-456789abcdef")}) {
        INFO(name);
        CHECK(error_of(f.vault->create({name, 2, {}})) == Errc::invalid_argument);
        CHECK(error_of(f.vault->rename(a, name)) == Errc::invalid_argument);
    }
    CHECK(fine(f.vault->create({std::string(64, 'a'), 2, {}})));
    CHECK(error_of(f.vault->create({"a", 2, {}})) == Errc::already_exists);
    CHECK(error_of(f.vault->create({"b", 2, a})) == Errc::already_exists);
    CHECK(error_of(f.vault->create({"b", 0, {}})) == Errc::invalid_argument);
    CHECK(error_of(f.vault->create({"b", 2, Uuid()})) == Errc::invalid_argument);
    CHECK(f.vault->list()->size() == 2);
}

TEST_CASE("find by name, uuid and prefix") {
    Fixture f;
    f.set_up();
    const auto one = *Uuid::parse("abcd0000-0000-4000-8000-000000000001");
    const auto two = *Uuid::parse("abcd1000-0000-4000-8000-000000000002");
    REQUIRE(fine(f.vault->create({"web1", 2, one})));
    REQUIRE(fine(f.vault->create({"beef", 2, two})));
    CHECK(f.vault->find("web1")->uuid == one);
    CHECK(f.vault->find("abcd0000-0000-4000-8000-000000000001")->uuid == one);
    CHECK(f.vault->find("ABCD0")->uuid == one);
    CHECK(f.vault->find("abcd1000-00")->uuid == two);
    CHECK(f.vault->find("beef")->uuid == two);  // a name before a prefix
    CHECK(error_of(f.vault->find("abcd")) == Errc::invalid_argument);
    CHECK(error_of(f.vault->find("abc")) == Errc::not_found);
    CHECK(error_of(f.vault->find("-----")) == Errc::not_found);
    CHECK(error_of(f.vault->find("web")) == Errc::not_found);
    CHECK(error_of(f.vault->find("")) == Errc::not_found);
    CHECK(error_of(f.vault->find("ffff")) == Errc::not_found);
    CHECK(error_of(f.vault->get(Uuid::random())) == Errc::not_found);
}

TEST_CASE("rename") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "state of a");
    CHECK(error_of(f.vault->rename(a, "b")) == Errc::already_exists);
    REQUIRE(fine(f.vault->rename(a, "c")));
    REQUIRE(fine(f.vault->rename(b, "a")));
    CHECK(fine(f.vault->rename(b, "a")));
    f.reopen_unlocked();
    CHECK(f.vault->find("c")->uuid == a);
    CHECK(f.vault->find("a")->uuid == b);
    CHECK(f.loaded(a) == "state of a");
    CHECK(error_of(f.vault->rename(Uuid::random(), "d")) == Errc::not_found);
}

TEST_CASE("an instance's policy is kept, whatever it says") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    CHECK(f.vault->get(a)->policy.empty());
    const Bytes policy(Vault::max_policy_size, 7);
    REQUIRE(fine(f.vault->set_policy(a, policy)));
    CHECK(error_of(f.vault->set_policy(a, Bytes(Vault::max_policy_size + 1))) == Errc::too_large);
    f.stored(a, 0, "state of a");
    f.reopen_unlocked();
    CHECK(f.vault->get(a)->policy == policy);
    CHECK(f.loaded(a) == "state of a");
    CHECK(error_of(f.vault->set_policy(Uuid::random(), policy)) == Errc::not_found);
    REQUIRE(fine(f.vault->set_policy(a, {})));
    f.reopen_unlocked();
    CHECK(f.vault->get(a)->policy.empty());
}

TEST_CASE("remove leaves a tombstone and no key") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    f.stored(a, 0, "state of a");
    f.stored(b, 0, "state of b");
    f.close();
    const Bytes key = blob(f.database(), "SELECT wrapped_key FROM instances WHERE name = 'a'");
    f.reopen_unlocked();
    REQUIRE(key.size() == 40);
    f.stored(a, 1, "newer state of a");  // so that the log holds the key, too
    f.stored(a, 2, "newer state of a");
    REQUIRE(fine(f.vault->idle()));  // from here on the log is written over, from its beginning
    f.stored(b, 1, "newer state of b");
    const auto on_disk = [&] {
        int found = 0;
        for (const auto& entry : std::filesystem::directory_iterator(f.directory())) {
            const Bytes bytes = slurp(entry.path());
            if (std::search(bytes.begin(), bytes.end(), key.begin(), key.end()) != bytes.end()) {
                ++found;
            }
        }
        return found;
    };
    CHECK(on_disk() == 2);
    REQUIRE(fine(f.vault->remove(a)));
    CHECK(on_disk() == 0);
    f.stored(b, 2, "newest state of b");  // to a log of zeros
    CHECK_FALSE(f.vault->status().reason);

    for (int i = 0; i < 2; ++i) {
        CHECK(f.vault->list()->size() == 1);
        CHECK(f.vault->status().instances == 1);
        for (const auto& error :
             {error_of(f.vault->get(a)), error_of(f.vault->load(a)), error_of(f.vault->remove(a)),
              error_of(f.vault->rename(a, "x")), error_of(f.vault->find(a.to_string())),
              error_of(f.vault->find("a")), error_of(f.vault->store(a, 2, permanent("x")))}) {
            CHECK(error == Errc::not_found);
        }
        CHECK(f.vault->load(a).error().context.find("deleted") != std::string::npos);
        CHECK(error_of(f.vault->create({"z", 2, a})) == Errc::already_exists);
        CHECK(f.loaded(b) == "newest state of b");
        f.reopen_unlocked();
    }
    CHECK(fine(f.vault->create({"a", 2, {}})));  // the name is free again
    CHECK(error_of(f.vault->remove(Uuid::random())) == Errc::not_found);
}

// The first erasure after a start takes the whole log for used, those after it look.
TEST_CASE("a key is erased from wherever it lies in the log") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    const Uuid b = f.made("b");
    const Uuid c = f.made("c");
    f.close();
    const Bytes key = blob(f.database(), "SELECT wrapped_key FROM instances WHERE name = 'b'");
    f.reopen_unlocked();
    REQUIRE(fine(f.vault->idle()));
    REQUIRE(fine(f.vault->remove(a)));
    f.stored(c, 0, std::string(400'000, 'x'));
    for (std::uint64_t sequence = 0; sequence < 3; ++sequence)
        f.stored(b, sequence, std::string(400'000, 'x'));
    f.stored(c, 1, "small");
    const auto path = f.directory() / "vault.db-wal";
    const auto last_place = [&] {
        const Bytes log = slurp(path);
        const auto found = std::find_end(log.begin(), log.end(), key.begin(), key.end());
        return found == log.end() ? 0 : found - log.begin();
    };
    CHECK(last_place() > 1024 * 1024);
    REQUIRE(fine(f.vault->remove(b)));
    CHECK(last_place() == 0);
    CHECK(slurp(path).size() == 4L * 1024 * 1024);
    CHECK_FALSE(f.vault->status().reason);
}

TEST_CASE("an instance made with a state has it from the beginning") {
    Fixture f;
    f.set_up();
    const auto made = f.vault->create(moving_in("a", secret_of("lived elsewhere")));
    REQUIRE(fine(made));
    CHECK(made->sequence == 1);
    CHECK(made->committed >= made->created);
    CHECK(made->bytes == 15);
    for (int i = 0; i < 2; ++i) {
        CHECK(f.loaded(made->uuid) == "lived elsewhere");
        CHECK(f.vault->get(made->uuid)->sequence == 1);
        f.reopen_unlocked();
    }
    // It was a first store: another one is too late, the next one follows.
    CHECK(error_of(f.vault->store(made->uuid, 0, permanent("new"))) == Errc::out_of_order);
    CHECK(f.stored(made->uuid, 1, "newer") == 2);
    f.close();
    f.reopen_unlocked();
    CHECK(f.loaded(made->uuid) == "newer");
}

TEST_CASE("states that no instance is made with") {
    Fixture f;
    f.set_up();
    CHECK(error_of(f.vault->create(moving_in("a", SecretBytes()))) == Errc::invalid_argument);
    CHECK(error_of(f.vault->create(moving_in("a", SecretBytes(Vault::max_blob_size + 1)))) ==
          Errc::too_large);
    CHECK(f.vault->list()->empty());
    CHECK(fine(f.vault->create(moving_in("a", SecretBytes(Vault::max_blob_size)))));
}
