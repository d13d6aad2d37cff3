// New keys and new seals: what an older copy of the disk opens after them, and power cuts on the
// way.
#include "approver.h"
#include "vtpm/vault/escrow.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

namespace {

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

bool contains(const SecretBytes& all, const SecretBytes& part) {
    return std::search(all.view().begin(), all.view().end(), part.view().begin(),
                       part.view().end()) != all.view().end();
}

}  // namespace

TEST_CASE("after new keys or another approver the chip opens no older copy of the disk") {
    for (int kind = 0; kind < Full::kinds; ++kind) {
        INFO("kind " << kind);
        Full f;
        f.set_up_full({});
        f.close();
        const Bytes older = slurp(f.database());
        f.reopen_unlocked();
        REQUIRE(fine(f.vault->close_latch()));
        REQUIRE(fine(f.renew(kind)));
        CHECK(f.vault->status().latch == LatchState::open);
        CHECK_FALSE(f.vault->status().reason);
        CHECK(f.loaded(f.theirs) == "their state");
        f.close();

        Moment now(f, f.chip, f.for_successor);
        now.chip = f.chip.memory();
        now.files = {{"vault.db", older}};
        for (auto& cell : now.chip.cells)
            cell.closed = false;  // the next boot
        After thief(now);
        CHECK(thief.indices() == 3);
        CHECK(error_of(thief.vault->unlock()) == Errc::latched);
        CHECK(error_of(thief.vault->recover({})) == Errc::invalid_argument);
    }
}

TEST_CASE("without a latch an older copy is still opened by its chip") {
    Full f;
    SetupWishes wishes;
    wishes.latch = false;
    f.set_up_full(std::move(wishes));
    f.close();
    const Bytes older = slurp(f.database());
    f.reopen_unlocked();
    // And a closed group is no hindrance for what is not about it.
    REQUIRE(fine(f.vault->close_group(f.tenant)));
    REQUIRE(fine(f.vault->set_approver(f.default_group(), f.approver.wish())));
    REQUIRE(fine(f.vault->rotate_root()));
    CHECK(error_of(replace_key(*f.vault)) == Errc::locked);
    REQUIRE(fine(f.vault->open_group(f.tenant)));
    CHECK(f.loaded(f.theirs) == "their state");
    f.close();
    spit(f.database(), older);
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::rolled_back);  // it has had the keys
}

TEST_CASE("a new recovery key: what the one before gives out are not the keys of now") {
    Full f;
    f.set_up_full({});
    f.close();
    const auto root = open_escrow(f.recovery_key, blob(f.database(), "SELECT escrow FROM vault"));
    const auto group = open_escrow(f.recovery_key, blob(f.database(), "SELECT escrow FROM groups"));
    REQUIRE(fine(root));
    REQUIRE(fine(group));
    f.reopen_unlocked();
    CHECK(contains(*f.vault->keys_at_hand(), root->key));
    CHECK(contains(*f.vault->keys_at_hand(), group->key));
    const auto outcome = replace_key(*f.vault);
    REQUIRE(fine(outcome));
    CHECK_FALSE(contains(*f.vault->keys_at_hand(), root->key));
    CHECK_FALSE(contains(*f.vault->keys_at_hand(), group->key));
    CHECK(fine(f.vault->check_recovery_key(outcome->recovery_key_pem)));
    CHECK(f.loaded(f.theirs) == "their state");
    f.reopen_unlocked();
    CHECK(f.loaded(f.theirs) == "their state");
}

TEST_CASE("new seals: a crash at any moment locks neither this boot nor the next") {
    for (int kind = 0; kind < Full::kinds; ++kind) {
        Full f;
        f.set_up_full({});
        REQUIRE(fine(f.vault->close_latch()));
        const auto moments = f.moments_of(kind);
        REQUIRE(moments.size() > 8);
        for (std::size_t i = 0; i < moments.size(); ++i) {
            INFO("kind " << kind << ", before call " << i << " of " << moments.size());
            After restarted(moments[i]);
            // Nobody has handed new keys over.
            CHECK(restarted.opens_with(f.for_successor));
            CHECK(fine(restarted.vault->load(f.theirs)));
            CHECK(restarted.indices() == 3);
            After rebooted(moments[i]);
            rebooted.chip.reset();
            if (kind >= 3 && !rebooted.vault->unlock()) {
                const auto groups = rebooted.vault->groups();
                REQUIRE(fine(groups));
                for (const auto& group : *groups) {
                    const auto statement = rebooted.vault->statement(group.uuid, {}, false);
                    if (statement)
                        CHECK(fine(
                            rebooted.vault->approve(group.uuid, f.approver.approval(*statement))));
                }
            }
            CHECK(fine(rebooted.vault->unlock()));
            CHECK(rebooted.indices() == 3);
        }
    }
}

TEST_CASE("new keys on a boot that nobody has approved: a crash at any moment leaves them") {
    for (int kind = 0; kind < 3; ++kind) {
        Full f;
        SetupWishes wishes;
        wishes.approver = f.approver.wish();
        f.set_up_full(std::move(wishes));
        f.vault->keep_for_successor(
            [&](const SecretBytes& keys) { f.for_successor = keys.clone(); });
        REQUIRE(fine(f.vault->close_latch()));
        const auto moments = f.moments_of(kind);
        for (std::size_t i = 0; i < moments.size(); ++i) {
            INFO("kind " << kind << ", before call " << i << " of " << moments.size());
            After restarted(moments[i]);
            CHECK(restarted.opens_with(moments[i].keys));
            CHECK(fine(restarted.vault->load(f.theirs)));
        }
        // What is in force is what the next ones get.
        const auto keys = f.vault->keys_at_hand();
        REQUIRE(fine(keys));
        CHECK(keys->size() < f.for_successor.size());
        After later(moments.back());
        CHECK(later.opens_with(*keys));
    }
}

TEST_CASE("a new group's key is handed over before the group is there") {
    Full f;
    f.set_up_full({});
    REQUIRE(fine(f.vault->close_latch()));
    f.vault->keep_for_successor([&](const SecretBytes& keys) { f.for_successor = keys.clone(); });
    REQUIRE(fine(f.vault->create_group("late", {})));
    After restarted(Moment(f, f.chip, f.for_successor));
    CHECK(restarted.opens_with(f.for_successor));
}

TEST_CASE("a chip that fails at any call of a renewal: the old or the new, and no index too many") {
    for (int kind = 0; kind < Full::kinds; ++kind) {
        bool undisturbed = false;
        for (int nth = 1; !undisturbed; ++nth) {
            INFO("kind " << kind << ", call " << nth);
            REQUIRE(nth < 60);
            Full f;
            f.set_up_full({});
            const int before = f.chip.calls();
            f.chip.fail_nth(nth, Error{Errc::unavailable, NextAction::retry_later, "gone"});
            const auto done = f.renew(kind);
            undisturbed = f.chip.calls() - before < nth;
            f.chip.fail_nth(0, Error{Errc::unavailable, NextAction::retry_later, "gone"});
            CHECK(f.loaded(f.theirs) == "their state");
            REQUIRE(fine(f.vault->idle()));
            REQUIRE(fine(f.renew(kind)));  // it can be repeated
            After now(Moment(f, f.chip, f.vault->keys_at_hand().value()));
            CHECK(now.indices() == 3);
            CHECK(now.opens_with(f.vault->keys_at_hand().value()));
        }
    }
}

TEST_CASE("what the chip does not give back is told, and given back later") {
    Full f;
    f.set_up_full({});
    const auto moments = f.moments_of(0);
    // The last calls of a renewal give the old indices back.
    f.chip.fail_nth(static_cast<int>(moments.size()) - 1,
                    Error{Errc::unavailable, NextAction::retry_later, "gone"});
    REQUIRE(fine(f.vault->rotate_root()));
    REQUIRE(f.vault->status().reason);
    CHECK(f.vault->status().reason->context.find("older copies") != std::string::npos);
    REQUIRE(fine(f.vault->idle()));
    CHECK_FALSE(f.vault->status().reason);
    CHECK(After(Moment(f, f.chip, f.for_successor)).indices() == 3);
}

TEST_CASE("keys are sealed anew only if all are at hand") {
    Full f;
    f.set_up_full({});
    REQUIRE(fine(f.vault->close_group(f.tenant)));
    for (const int kind : {0, 2, 3}) {
        const auto refused = f.renew(kind);
        CHECK(error_of(refused) == Errc::locked);
        CHECK(refused.error().context.find("tenant") != std::string::npos);
    }
    CHECK(error_of(f.renew(1)) == Errc::locked);
    REQUIRE(fine(f.vault->open_group(f.tenant)));
    CHECK(fine(f.renew(0)));
}

TEST_CASE("a latch that was lost under an open vault is made anew") {
    Full f;
    f.set_up_full({});
    REQUIRE(fine(f.chip.remove_cell(0x01800102)));
    CHECK_FALSE(f.vault->close_latch());
    REQUIRE(fine(f.vault->rotate_root()));
    REQUIRE(fine(f.vault->close_latch()));
    f.reboot();
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(f.theirs) == "their state");
}

TEST_CASE("a set-up that was cut short leaves nothing in the chip once there is a vault") {
    Fixture f;
    std::vector<Moment> moments;
    f.chip.on_call([&] { moments.emplace_back(f, f.chip, SecretBytes()); });
    REQUIRE(fine(f.vault->setup({})));
    f.chip.on_call(nullptr);
    bool cut_short = false;
    for (std::size_t i = 0; i < moments.size(); ++i) {
        INFO("before call " << i);
        After next(moments[i]);
        cut_short = cut_short || next.indices() == 3;
        if (next.vault->status().phase == Phase::not_set_up) {
            REQUIRE(fine(next.vault->setup({})));
        } else {
            REQUIRE(fine(next.vault->unlock()));
        }
        CHECK(next.indices() == 3);
        CHECK_FALSE(fs::exists(next.directory() / "setting-up"));
    }
    CHECK(cut_short);
}

TEST_CASE("a recovery that was cut short leaves nothing in the chip either") {
    Full f;
    f.set_up_full({});
    f.close();
    REQUIRE(fine(f.chip.remove_cell(0x01800101)));  // the counter, and
    REQUIRE(fine(f.chip.remove_cell(0x01800102)));  // the latch
    const auto stranger = f.chip.define_counter(chip::CellTag{1});
    REQUIRE(fine(stranger));
    f.reopen();
    REQUIRE(error_of(f.vault->unlock()) == Errc::latched);
    std::vector<Moment> moments;
    f.chip.on_call([&] { moments.emplace_back(f, f.chip, SecretBytes()); });
    REQUIRE(fine(f.vault->recover(f.recovery_key)));
    f.chip.on_call(nullptr);
    for (std::size_t i = 0; i < moments.size(); ++i) {
        INFO("before call " << i);
        After next(moments[i]);
        if (!next.vault->unlock())
            REQUIRE(fine(next.vault->recover(f.recovery_key)));
        CHECK(next.indices() == 4);  // what is somebody else's stays
        CHECK(fine(next.chip.read_counter(*stranger)));
    }
}
