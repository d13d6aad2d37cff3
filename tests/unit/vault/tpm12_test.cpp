// On a TPM 1.2, of software: the boots that the keys are sealed for, and those that go.
#include <algorithm>

#include "fakes/chip/swtpm12.h"
#include "fixture.h"
#include "vtpm/chip/tpm12_chip.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

struct Legacy {
    TemporaryDirectory temporary;
    fakes::Swtpm12 swtpm{temporary.path() / "chip"};
    std::optional<chip::Tpm12Chip> chip;
    std::filesystem::path directory = temporary.path() / "vault";
    std::optional<SqliteVault> vault;

    Legacy() {
        swtpm.extend(4, 1);
        swtpm.extend(7, 2);
        start();
        SetupWishes wishes;
        wishes.legacy_tpm12 = true;
        wishes.latch = false;
        wishes.approver.pcrs = {4, 7};
        REQUIRE(fine(vault->setup(wishes)));
    }
    // A swtpm serves one at a time, and whoever extends is another one.
    void stop() {
        vault.reset();
        chip.reset();
    }
    void start() {
        stop();
        chip.emplace(swtpm.tcti());
        vault.emplace(directory, *chip);
    }
    Uuid group() { return vault->find_group("")->uuid; }
    // A kernel that waits for its first start.
    void approve_next(std::uint8_t kernel) {
        auto pcrs = chip->read_pcrs({4});
        REQUIRE(fine(pcrs));
        (*pcrs)[4][0] ^= kernel;
        REQUIRE(fine(vault->approve_unsigned(group(), *pcrs)));
    }
    // What a power cut would leave.
    std::vector<Bytes> files() const {
        std::vector<Bytes> all;
        for (const auto& entry : std::filesystem::directory_iterator(directory))
            all.push_back(slurp(entry.path()));
        return all;
    }
    // The sealed keys of now, which are in the log at least.
    std::vector<Bytes> sealed() const {
        const TemporaryDirectory copy;
        for (const char* const name : {"vault.db", "vault.db-wal"})
            spit(copy.path() / name, slurp(directory / name));
        return {blob(copy.path() / "vault.db", "SELECT root_private FROM vault"),
                blob(copy.path() / "vault.db", "SELECT sealed_private FROM groups")};
    }
    // Of any of these some part; but for their beginnings, which are alike.
    bool on_disk(const std::vector<Bytes>& blobs) const {
        constexpr std::ptrdiff_t part = 64;
        for (const Bytes& file : files()) {
            for (const Bytes& one : blobs) {
                for (auto at = one.end() - 3 * part; one.end() - at >= part; at += part) {
                    if (std::search(file.begin(), file.end(), at, at + part) != file.end())
                        return true;
                }
            }
        }
        return false;
    }
};

}  // namespace

TEST_CASE("on a TPM 1.2 nothing that is sealed for other boots is left after a revocation") {
    Legacy host;
    host.approve_next(0x10);
    const auto old = host.sealed();
    REQUIRE(old[0].size() > 256);
    REQUIRE(old[1].size() > 256);
    CHECK(host.on_disk({old[0]}));
    CHECK(host.on_disk({old[1]}));
    REQUIRE(fine(host.vault->revoke(true)));
    CHECK_FALSE(host.on_disk(old));
    CHECK(host.on_disk(host.sealed()));
    host.start();
    CHECK(fine(host.vault->unlock()));
}

TEST_CASE("on a TPM 1.2 a boot that is to come is not lost without a word") {
    Legacy host;
    CHECK(fine(host.vault->revoke(false)));  // there is none
    host.approve_next(0x10);
    host.approve_next(0x20);
    const auto refused = host.vault->revoke(false);
    CHECK(error_of(refused) == Errc::invalid_argument);
    CHECK(refused.error().context.find("lost: 2,") != std::string::npos);
    CHECK(host.vault->approvals()->size() == 3);
    REQUIRE(fine(host.vault->create_group("tenant", {})));
    CHECK_FALSE(host.vault->revoke(false));
    int asked = 0;
    host.vault->let_in_meanwhile([&] { return ++asked < 2; });
    CHECK(error_of(host.vault->revoke(true)) == Errc::locked);
    CHECK(host.vault->approvals()->size() == 6);  // the tenant has the same
    host.vault->let_in_meanwhile({});
    REQUIRE(fine(host.vault->revoke(true)));
    CHECK(host.vault->approvals()->size() == 2);
    CHECK(fine(host.vault->revoke(false)));
}

TEST_CASE("on a TPM 1.2 a revocation on a boot that was not approved has to be meant") {
    Legacy host;
    const auto keys = host.vault->keys_at_hand();
    REQUIRE(fine(keys));
    host.stop();
    host.swtpm.extend(4, 3);
    host.start();
    CHECK(error_of(host.vault->unlock()) == Errc::not_approved);
    REQUIRE(fine(host.vault->unlock_with_keys(*keys)));
    const auto refused = host.vault->revoke(false);
    CHECK(error_of(refused) == Errc::invalid_argument);
    CHECK(refused.error().context.find("was not approved") != std::string::npos);
    REQUIRE(fine(host.vault->revoke(true)));
    host.start();
    CHECK(fine(host.vault->unlock()));
}
