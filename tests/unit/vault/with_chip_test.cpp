// The vault on a real (software) chip.
#include "fixture.h"
#include "vtpm/chip/esys_chip.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("a vault sealed to a swtpm opens with it, and with no other") {
    const TemporaryDirectory temporary;
    fakes::Swtpm swtpm(temporary.path() / "chip");
    const auto directory = temporary.path() / "vault";
    Uuid a;
    {
        const auto chip = chip::EsysChip::open(swtpm.tcti());
        REQUIRE(fine(chip));
        SqliteVault vault(directory, **chip);
        const auto outcome = set_up_with_key(vault);
        REQUIRE(fine(outcome));
        const auto made = vault.create({"a", 2, {}});
        REQUIRE(fine(made));
        a = made->uuid;
        REQUIRE(fine(vault.store(a, 0, permanent("state of a"))));
        swtpm.kill();
        REQUIRE(fine(vault.store(a, 1, permanent("newer state of a"))));
    }
    swtpm.start();
    {
        const auto chip = chip::EsysChip::open(swtpm.tcti());
        REQUIRE(fine(chip));
        SqliteVault vault(directory, **chip);
        CHECK(error_of(vault.load(a)) == Errc::locked);
        swtpm.kill();
        CHECK(error_of(vault.unlock()) == Errc::unavailable);
        CHECK(vault.status().phase == Phase::locked);
        swtpm.start();
        REQUIRE(fine(vault.unlock()));
        const auto state = vault.load(a);
        REQUIRE(fine(state));
        CHECK(state->sequence == 2);
        CHECK(blob_of(*state, BlobKind::permanent) == "newer state of a");
    }
    const fakes::Swtpm other(temporary.path() / "other");
    const auto chip = chip::EsysChip::open(other.tcti());
    REQUIRE(fine(chip));
    SqliteVault vault(directory, **chip);
    CHECK(error_of(vault.unlock()) == Errc::wrong_chip);
    CHECK(error_of(vault.load(a)) == Errc::locked);
}

TEST_CASE("after new keys a swtpm opens no older copy, and what it does not need is gone") {
    const TemporaryDirectory temporary;
    fakes::Swtpm swtpm(temporary.path() / "chip");
    const auto chip = chip::EsysChip::open(swtpm.tcti());
    REQUIRE(fine(chip));
    const auto directory = temporary.path() / "vault";
    std::optional<SqliteVault> vault(std::in_place, directory, **chip);
    REQUIRE(fine(vault->setup({})));
    REQUIRE(fine(vault->close()));
    vault.reset();
    const Bytes older = slurp(directory / "vault.db");
    vault.emplace(directory, **chip);
    REQUIRE(fine(vault->unlock()));
    REQUIRE(fine(vault->close_latch()));
    REQUIRE(fine(vault->rotate_root()));
    REQUIRE(fine(vault->close_latch()));
    REQUIRE(fine(vault->rotate_group(vault->find_group("")->uuid)));
    CHECK_FALSE(vault->status().reason);
    vault.reset();
    vault.emplace(directory, **chip);
    REQUIRE(fine(vault->unlock()));  // the newest latch is open
    vault.reset();
    swtpm.kill();
    swtpm.start();
    spit(directory / "vault.db", older);
    std::filesystem::remove(directory / "vault.db-wal");
    vault.emplace(directory, **chip);
    CHECK(error_of(vault->unlock()) == Errc::latched);
    // The latch of the second renewal, the counter and the new cell lie where they would without a
    // leftover: in what were the first free places.
    for (const chip::CellIndex index : {0x01800102U, 0x01800103U, 0x01800105U, 0x01800106U})
        CHECK_FALSE((*chip)->remove_cell(index));
    for (const chip::CellIndex index : {0x01800100U, 0x01800101U, 0x01800104U})
        CHECK(fine((*chip)->remove_cell(index)));
}
