// Somebody with the disk and the chip, under a system of his own: he cannot unseal the vault's
// keys, but seal a root key of his own for the boots that are approved, and have a new cell vouch
// for rows that he authenticates with it; older ones, of the very vault, beside its groups' sealed
// keys.
#include "../../../src/vault/format.h"
#include "../../../src/vault/sqlite_vault_parts.h"
#include "fixture.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

// Makes `path` a vault of the same manager and group, with a root key that nobody but we know, and
// the state of before its first instance.
void forge(const std::filesystem::path& path, chip::Chip& chip) {
    VaultRecord record;
    std::vector<GroupRecord> groups;
    {
        const auto genuine = Database::open(path);
        REQUIRE(fine(genuine));
        record = read_vault_record(**genuine).value();
        groups = read_group_records(**genuine).value();
    }
    REQUIRE(groups.size() == 1);
    const SecretBytes root = random_secret(key_size).value();
    const SecretBytes anchor_key = random_secret(key_size).value();
    const SecretBytes cell_auth = random_secret(chip::Chip::cell_auth_size).value();
    const TableKeys keys = derive_table_keys(root);
    const chip::CellTag tag = cell_tag(record.manager);
    record.cell = chip.define_cell(cell_auth, tag).value();
    record.root = seal_key(chip, root, binding_of(record, groups[0])).value();
    record.anchor_key = wrap_key(keys.cell, anchor_key).value();
    record.cell_auth = wrap_key(keys.cell, cell_auth).value();
    record.mac = mac_of(record, keys.meta);
    groups[0].mac = mac_of(groups[0], record.manager, keys.meta);
    const auto line = Journal::first({}, anchor_key, record.manager);
    const Hash state = InstanceTable::empty_state(keys, record.manager,
                                                  {surroundings_of(record, groups, {}), line.mac});
    const Anchor anchor = next_anchor(Anchor(), {}, state, 1, record.manager, anchor_key).value();
    const Hash name = name_of(anchor, record.manager);

    std::filesystem::remove(path.string() + "-wal");
    spit(path, {});
    const auto database = Database::open(path);
    REQUIRE(fine(database));
    REQUIRE(fine(create_tables(**database)));
    REQUIRE(fine(write(**database, record)));
    REQUIRE(fine(write(**database, groups[0])));
    REQUIRE(fine(Journal(**database, anchor_key, record.manager).write(line)));
    REQUIRE(fine(write(**database, anchor)));
    REQUIRE(fine(InstanceTable::write_total(**database, keys, record.manager, state, {name, {}, 0},
                                            line.mac)));
    REQUIRE(
        fine(chip.extend_cell({static_cast<chip::CellIndex>(record.cell), tag}, cell_auth, name)));
}

}  // namespace

TEST_CASE("a root key of somebody else's is not taken beside the groups' own") {
    Fixture f;
    f.set_up();
    f.stored(f.made("a"), 0, "of this year");
    f.close();
    forge(f.database(), f.chip);
    f.reopen();
    const auto opened = f.vault->unlock();
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == Errc::corrupt);
    CHECK(opened.error().context.find("do not belong together") != std::string::npos);
    CHECK(f.vault->status().phase == Phase::locked);
}
