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
        const auto outcome = vault.setup(with_recovery_key());
        REQUIRE(fine(outcome));
        CHECK_FALSE(outcome->recovery_key_pem.empty());
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
