// A copy of the running vault, put back.
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>

#include "small_files.h"
#include "two_hosts.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

namespace {

Bytes content_of(const Fd& file) {
    struct stat facts {};
    REQUIRE(::fstat(file.get(), &facts) == 0);
    Bytes bytes(static_cast<std::size_t>(facts.st_size));
    REQUIRE(fine(read_exactly(file.get(), bytes)));
    return bytes;
}

std::vector<std::string> names_in(const fs::path& directory) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

// As the manual says.
void put_back(Host& host, const Bytes& copy) {
    host.vault.reset();
    fs::remove(host.directory() / "vault.db-wal");
    spit(host.database(), copy);
    fs::permissions(host.database(), fs::perms::owner_read | fs::perms::owner_write);
    host.vault.emplace(host.directory(), host.chip);
}

}  // namespace

TEST_CASE("a backup is the vault as it was, and an operator's to accept") {
    Host host(1);
    const Uuid a = host.made("a", "one");
    const Uuid gone = host.made("gone", std::string(300'000, 'x'));
    REQUIRE(fine(host.vault->remove(gone)));
    const auto names = names_in(host.directory());
    const auto backup = host.vault->backup();
    REQUIRE(fine(backup));
    CHECK(names_in(host.directory()) == names);
    CHECK(host.actions().back() == "backup");
    const Bytes copy = content_of(*backup);
    CHECK(copy.size() < 100'000);  // not what was deleted
    struct stat facts {};
    REQUIRE(::fstat(backup->get(), &facts) == 0);
    CHECK((facts.st_mode & 0777) == 0600);
    CHECK(facts.st_nlink == 0);
    struct statfs where {};
    REQUIRE(::fstatfs(backup->get(), &where) == 0);
    CHECK(where.f_type == TMPFS_MAGIC);  // on a disk its blocks would keep it

    // The copy is a moment; the vault goes on.
    REQUIRE(fine(host.vault->store(a, 1, permanent("two"))));
    const Uuid b = host.made("b", "later");
    host.reopen();
    CHECK(host.loaded(a) == "two");

    put_back(host, copy);
    CHECK(error_of(host.vault->unlock()) == Errc::rolled_back);
    REQUIRE(fine(host.vault->recover({})));
    CHECK(host.loaded(a) == "one");
    CHECK(error_of(host.vault->load(b)) == Errc::not_found);
    CHECK(host.actions().back() == "recover");
    REQUIRE(fine(host.vault->store(a, 1, permanent("another two"))));
    host.reopen();
    CHECK(host.loaded(a) == "another two");
}

TEST_CASE("a backup of the newest state needs nobody's word") {
    Host host(1);
    const Uuid a = host.made("a", "one");
    const auto backup = host.vault->backup();
    REQUIRE(fine(backup));
    put_back(host, content_of(*backup));
    REQUIRE(fine(host.vault->unlock()));
    CHECK(host.loaded(a) == "one");
}

TEST_CASE("a backup for which there is no room") {
    Host host(1);
    const Uuid a = host.made("a", std::string(200'000, 'x'));
    REQUIRE(fine(host.vault->idle()));
    const auto names = names_in(host.directory());
    for (int round = 0; round < 2; ++round) {
        const auto refused = with_small_files(100UL * 1024, [&] { return host.vault->backup(); });
        CHECK(error_of(refused) == Errc::io);
        CHECK(names_in(host.directory()) == names);
        CHECK(host.loaded(a).size() == 200'000);
    }
    const auto backup = host.vault->backup();
    REQUIRE(fine(backup));
    CHECK(content_of(*backup).size() > 200'000);
}

// The chip gives its keys no more in this boot; the recovery key does.
TEST_CASE("a backup is restored on a host whose boot latch is closed") {
    Host host(1);
    const auto recovery = set_up_with_key(*host.vault);
    REQUIRE(fine(recovery));
    const Uuid a = host.made("a", "one");
    REQUIRE(fine(host.vault->close_latch()));
    const auto backup = host.vault->backup();
    REQUIRE(fine(backup));
    REQUIRE(fine(host.vault->store(a, 1, permanent("two"))));
    REQUIRE(fine(host.vault->close()));
    put_back(host, content_of(*backup));
    CHECK(error_of(host.vault->unlock()) == Errc::latched);
    REQUIRE(fine(host.vault->recover(recovery->recovery_key_pem)));
    CHECK(host.loaded(a) == "one");
}

TEST_CASE("a locked vault gives no backup") {
    Host host(1);
    host.vault.reset();
    host.vault.emplace(host.directory(), host.chip);
    CHECK(error_of(host.vault->backup()) == Errc::locked);
}
