// A vault of a format before, and what an older program makes of one of this format.
#include "../../../src/vault/format.h"

#include "../../../src/vault/instance_row.h"
#include "fixture.h"
#include "small_files.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

// What formats 6 and 5 had. The journal's lines are not as they were then: see journal_test.cpp.
void make_it_format_6(Fixture& f) {
    f.close();
    sql(f.database(),
        "ALTER TABLE approvals DROP COLUMN actor;"
        "ALTER TABLE journal DROP COLUMN kin; ALTER TABLE journal DROP COLUMN other;"
        "PRAGMA user_version = 6");
}

// Its rows and MACs are those of now, as long as nothing of it has a past.
void make_it_format_5(Fixture& f) {
    make_it_format_6(f);
    sql(f.database(),
        "ALTER TABLE instances DROP COLUMN past; DROP TABLE snapshots;"
        "PRAGMA user_version = 5");
}

}  // namespace

TEST_CASE("a vault of format 5 is brought up to date when it is opened") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "state");
    f.made("b");
    REQUIRE(fine(f.vault->remove(f.vault->find("b")->uuid)));
    make_it_format_5(f);
    SECTION("without its keys") {
        f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
        f.reopen();
        CHECK_FALSE(f.vault->unlock());
        CHECK(f.vault->status().format == 7);
        f.chip.refuse(std::nullopt);
    }
    SECTION("and a disk that is full, at whatever page") {
        int refused = 0;
        for (rlim_t size = 100;; size += 2000) {
            with_small_files(size, [&] { return f.vault.emplace(f.directory(), f.chip).status(); });
            const bool upgraded = f.vault->status().format == 7;
            f.vault.reset();
            CHECK(blob(f.database(), "PRAGMA user_version") ==
                  (upgraded ? Bytes{'7'} : Bytes{'5'}));
            if (upgraded)
                break;
            ++refused;
            REQUIRE(size < 1'000'000);
        }
        CHECK(refused > 1);
    }
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "state");
    CHECK(f.vault->list()->size() == 1);
    REQUIRE(fine(f.vault->take_snapshot(a, "s")));
    f.stored(a, 1, "two");
    REQUIRE(fine(f.vault->revert(a, "s")));
    f.reopen_unlocked();
    CHECK(f.loaded(a) == "state");
    CHECK(f.vault->get(a)->reverts == 1);
}

TEST_CASE("a vault of format 6 is brought up to date, and keeps its past") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "state");
    REQUIRE(fine(f.vault->take_snapshot(a, "s")));
    make_it_format_6(f);
    f.reopen_unlocked();
    CHECK(f.vault->status().format == 7);
    REQUIRE(fine(f.vault->revert(a, "s")));
    CHECK(f.loaded(a) == "state");
    CHECK(f.vault->journal(0, 100)->back().sound);
}

TEST_CASE("a vault of format 5 with tables of another is not touched") {
    Fixture f;
    f.set_up();
    make_it_format_5(f);
    SECTION("a table of format 6") {
        sql(f.database(), "CREATE TABLE snapshots(id INTEGER PRIMARY KEY)");
    }
    SECTION("a column more") {
        sql(f.database(), "ALTER TABLE instances ADD COLUMN past BLOB");
    }
    SECTION("a table less") {
        sql(f.database(), "DROP TABLE tickets");
    }
    const Bytes before = slurp(f.database());
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::corrupt);
    CHECK(slurp(f.database()) == before);
}

TEST_CASE("who takes the past away to have an older program read the vault is found out") {
    Fixture f;
    f.set_up();
    const Uuid a = f.made("a");
    f.stored(a, 0, "one");
    REQUIRE(fine(f.vault->take_snapshot(a, "s")));
    f.stored(a, 1, "two");
    REQUIRE(fine(f.vault->revert(a, "s")));
    make_it_format_5(f);
    f.reopen_unlocked();
    CHECK(error_of(f.vault->load(a)) == Errc::corrupt);
    CHECK(f.vault->status().quarantined == 1);
}

// The words of format 5, which no later version may change: else an upgrade would find all rows
// damaged.
TEST_CASE("the MAC of a row without a past is that of format 5") {
    InstanceRow row;
    row.id = 7;
    row.group_id = 1;
    row.facts.uuid = Uuid::random();
    row.facts.name = "web1";
    row.facts.tpm = 2;
    row.facts.sync = true;
    row.facts.group = Uuid::random();
    row.facts.state = InstanceState::live;
    row.facts.generation = 3;
    row.facts.sequence = 9;
    row.facts.created = 1'700'000'000;
    row.facts.committed = 1'700'000'001;
    row.facts.policy = {4, 5};
    row.wrapped_key = Bytes(40, 6);
    row.sizes = {10, 0, 20};
    row.last_store = Hash{1};
    row.digests = {Hash{2}, std::nullopt, Hash{3}};
    const Uuid manager = Uuid::random();
    const SecretBytes key = secret_of("0123456789abcdef0123456789abcdef");
    const Hash with = {1};
    const Hash second = {2};
    const Hash third = {3};
    const Bytes text = ByteWriter()
                           .sized(as_bytes("xen-vtpm instance row"))
                           .u32(5)
                           .bytes(manager.bytes())
                           .u64(7)
                           .u64(1)
                           .bytes(row.facts.uuid.bytes())
                           .sized(as_bytes("web1"))
                           .u8(2)
                           .u8(1)
                           .bytes(row.facts.group.bytes())
                           .u8(1)
                           .u32(3)
                           .u64(9)
                           .u64(1'700'000'000)
                           .u64(1'700'000'001)
                           .sized(row.wrapped_key)
                           .u64(10)
                           .u64(0)
                           .u64(20)
                           .sized(with)
                           .sized(second)
                           .sized({})
                           .sized(third)
                           .sized({})
                           .sized(row.facts.policy)
                           .take();
    CHECK(mac_of(row, manager, key) == hmac_sha256(key.view(), text));
    row.facts.reverts = 1;
    const Bytes with_past =
        ByteWriter().bytes(text).sized(as_bytes("past")).sized(past_of(row)).take();
    CHECK(mac_of(row, manager, key) == hmac_sha256(key.view(), with_past));
}

TEST_CASE("a past that is not ours is refused") {
    InstanceRow row;
    row.facts.reverts = 2;
    row.facts.origin = Uuid::random();
    KeptSnapshot snapshot;
    snapshot.name = "a";
    snapshot.place = 3;
    snapshot.bytes = 10;
    keep_snapshots(row, {snapshot});
    const Bytes past = past_of(row);
    InstanceRow read;
    REQUIRE(take_past(past, read));
    CHECK(read.facts.reverts == 2);
    CHECK(read.facts.origin == row.facts.origin);
    CHECK(read.facts.snapshots == 1);
    CHECK(past_of(read) == past);
    for (std::size_t size = 1; size < past.size(); ++size) {
        InstanceRow other;
        CHECK_FALSE(take_past(ByteView(past).first(size), other));
    }
    Bytes longer = past;
    longer.push_back(0);
    InstanceRow other;
    CHECK_FALSE(take_past(longer, other));
    const auto refused = [&](auto change) {
        InstanceRow bad = row;
        change(bad.snapshots);
        InstanceRow into;
        CHECK_FALSE(take_past(past_of(bad), into));
    };
    refused([](auto& list) { list[0].name = "../a"; });
    refused([](auto& list) { list[0].place = Vault::max_snapshots; });
    refused([](auto& list) { list[0].bytes = Vault::max_blob_size + 1; });
    refused([](auto& list) { list.push_back(list[0]); });
    refused([](auto& list) { list.resize(Vault::max_snapshots + 1, list[0]); });
}
