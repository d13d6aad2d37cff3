// Where a key was that is deleted or replaced, nothing of it is left: in no file, and in no block
// that a file had.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

// Any 16 bytes of them: a remainder counts.
bool holds(const Bytes& bytes, const Bytes& key) {
    for (std::size_t at = 0; at + 16 <= key.size(); at += 8) {
        const auto part = key.begin() + static_cast<std::ptrdiff_t>(at);
        if (std::search(bytes.begin(), bytes.end(), part, part + 16) != bytes.end())
            return true;
    }
    return false;
}

Bytes all_files(Fixture& f) {
    Bytes all;
    for (const auto& entry : std::filesystem::directory_iterator(f.directory())) {
        const Bytes bytes = slurp(entry.path());
        all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
}

std::map<std::string, Bytes> wrapped_keys(Fixture& f, const std::vector<std::string>& names) {
    std::map<std::string, Bytes> keys;
    f.close();
    for (const auto& name : names) {
        keys[name] =
            blob(f.database(), "SELECT wrapped_key FROM instances WHERE name = '" + name + "'");
        REQUIRE(keys[name].size() == 40);
    }
    f.reopen_unlocked();
    return keys;
}

}  // namespace

// SQLite moves rows from page to page as pages fill and empty.
TEST_CASE("of many keys those that go are gone") {
    Fixture f;
    f.set_up();
    std::vector<std::string> names;
    for (int i = 0; i < 60; ++i) {
        names.push_back("i" + std::to_string(i));
        f.made(names.back());
    }
    const auto keys = wrapped_keys(f, names);
    for (const auto& name : names)
        CHECK(holds(all_files(f), keys.at(name)));
    for (std::size_t i = 0; i < names.size(); ++i) {
        const auto instance = f.vault->find(names[i]);
        REQUIRE(fine(instance));
        // A longer name makes a row longer than its place.
        if (i % 4 == 1)
            REQUIRE(fine(f.vault->rename(instance->uuid, names[i] + std::string(50, 'x'))));
        if (i % 4 == 2)
            REQUIRE(fine(f.vault->rotate_instance(instance->uuid)));
        if (i % 4 >= 3)
            REQUIRE(fine(f.vault->remove(instance->uuid)));
    }
    const Bytes now = all_files(f);
    for (std::size_t i = 0; i < names.size(); ++i) {
        INFO(names[i]);
        CHECK(holds(now, keys.at(names[i])) == (i % 4 < 2));
    }
    REQUIRE(fine(f.vault->rotate_group(f.vault->find_group("")->uuid)));
    const Bytes after = all_files(f);
    for (const auto& [name, key] : keys) {
        INFO(name);
        CHECK_FALSE(holds(after, key));
    }
}

TEST_CASE("a log that is closed leaves zeros in its blocks") {
    Fixture f;
    f.set_up();
    f.made("a");
    f.stored(f.vault->find("a")->uuid, 0, "state");
    const auto path = f.directory() / "vault.db-wal";
    const Fd log(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(log.valid());
    const auto is_empty = [&] {
        struct stat facts {};
        REQUIRE(::fstat(log.get(), &facts) == 0);
        Bytes bytes(static_cast<std::size_t>(facts.st_size));
        REQUIRE(::pread(log.get(), bytes.data(), bytes.size(), 0) == facts.st_size);
        CHECK(bytes.size() > 4096);
        return std::all_of(bytes.begin(), bytes.end(), [](auto byte) { return byte == 0; });
    };
    CHECK_FALSE(is_empty());
    f.close();
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(is_empty());
    f.reopen_unlocked();
    CHECK(f.vault->list()->size() == 1);
}
