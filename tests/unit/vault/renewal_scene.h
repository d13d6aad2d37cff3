// What the tests of new keys and new seals share: a vault, and its host at every moment on the way.
#pragma once

#include "approver.h"

namespace vtpm::vault {

namespace fs = std::filesystem;

// The disk and the chip as they are at one moment, and what the next manager would be given.
struct Moment {
    std::vector<std::pair<fs::path, Bytes>> files;
    fakes::FakeChipMemory chip;
    SecretBytes keys;

    Moment(const Fixture& f, fakes::FakeChip& of, const SecretBytes& at_hand)
        : chip(of.memory()), keys(at_hand.clone()) {
        if (!fs::exists(f.directory()))
            return;
        for (const auto& entry : fs::directory_iterator(f.directory()))
            files.emplace_back(entry.path().filename(), slurp(entry.path()));
    }
};

// The host after a power cut, or its manager after a crash, in that moment.
struct After {
    TemporaryDirectory temporary;
    FakeChip chip;
    std::optional<SqliteVault> vault;

    explicit After(const Moment& moment) {
        chip.memory() = moment.chip;
        fs::create_directory(directory());
        fs::permissions(directory(), fs::perms::owner_all);
        for (const auto& [name, content] : moment.files) {
            spit(directory() / name, content);
            fs::permissions(directory() / name, fs::perms::owner_read | fs::perms::owner_write);
        }
        vault.emplace(directory(), chip);
    }
    fs::path directory() const { return temporary.path() / "vault"; }
    std::size_t indices() {
        return static_cast<std::size_t>(
            std::count_if(chip.memory().begin(), chip.memory().end(),
                          [](const auto& cell) { return cell.defined; }));
    }
    // As vtpmmgrd does.
    bool opens_with(const SecretBytes& keys) {
        return (fine(vault->unlock_with_keys(keys)) || fine(vault->unlock())) &&
               vault->status().closed_groups == 0;
    }
};

// A vault with a recovery key and a second group, in each of which is something.
struct Full : BoundFixture {
    SecretBytes recovery_key;
    Uuid tenant;
    Uuid theirs;
    SecretBytes for_successor;

    void set_up_full(SetupWishes wishes) {
        auto outcome = set_up_with_key(*vault, std::move(wishes));
        REQUIRE(fine(outcome));
        recovery_key = std::move(outcome->recovery_key_pem);
        const auto group = vault->create_group("tenant", {});
        REQUIRE(fine(group));
        tenant = group->uuid;
        const auto made = vault->create({"theirs", 2, {}, tenant});
        REQUIRE(fine(made));
        theirs = made->uuid;
        stored(theirs, 0, "their state");
        for_successor = vault->keys_at_hand().value();
    }

    // 0: root key, 1: group key, 2: recovery key, 3: approver, 4: another group's approver
    static constexpr int kinds = 5;
    Result<void> renew(int kind) {
        const auto nothing = [](const auto& result) -> Result<void> {
            if (!result)
                return tl::make_unexpected(result.error());
            return {};
        };
        switch (kind) {
            case 0:
                return vault->rotate_root();
            case 1:
                return nothing(vault->rotate_group(tenant));
            case 2:
                return nothing(replace_key(*vault));
            case 3:
                return nothing(vault->set_approver(default_group(), approver.wish()));
            default:
                return nothing(vault->set_approver(tenant, approver.wish({4})));
        }
    }
    // What is there before each of the chip's calls, and in the end.
    std::vector<Moment> moments_of(int kind) {
        std::vector<Moment> moments;
        chip.on_call([&] { moments.emplace_back(*this, chip, for_successor); });
        const auto done = renew(kind);
        chip.on_call(nullptr);
        REQUIRE(fine(done));
        moments.emplace_back(*this, chip, for_successor);
        return moments;
    }
};

}  // namespace vtpm::vault
