// New keys and new seals: what an older copy of the disk opens after them, and power cuts on the
// way.
#include "renewal_scene.h"
#include "vtpm/vault/escrow.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

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
    // And a closed group is no hindrance for what is not about it; its key has to vouch for a new
    // root key.
    REQUIRE(fine(f.vault->close_group(f.tenant)));
    REQUIRE(fine(f.vault->set_approver(f.default_group(), f.approver.wish())));
    CHECK(error_of(f.vault->rotate_root()) == Errc::locked);
    CHECK(error_of(replace_key(*f.vault)) == Errc::locked);
    REQUIRE(fine(f.vault->open_group(f.tenant)));
    REQUIRE(fine(f.vault->rotate_root()));
    CHECK(f.loaded(f.theirs) == "their state");
    f.close();
    spit(f.database(), older);
    f.reopen();
    CHECK(error_of(f.vault->unlock()) == Errc::wrong_cell);  // it has had the keys
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

TEST_CASE("a chip that fails at any call of a renewal: the old or the new, and no index too many",
          "[every]") {
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
        CHECK(refused.error().context.find("unlock --recovery-key") != std::string::npos);
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
