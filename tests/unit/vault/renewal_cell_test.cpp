// The commit cell of a new root key, what is let in while keys are renewed, and renewals that fail.
#include "renewal_scene.h"

using namespace vtpm;
using namespace vtpm::vault;

TEST_CASE("who had the old root key has no way into the commit cell of the new one") {
    for (const int kind : {0, 2}) {
        Full f;
        f.set_up_full({});
        const auto cells = [&] {
            std::vector<chip::CellValue> auths;
            for (const auto& cell : f.chip.memory().cells) {
                if (cell.defined && cell.kind == fakes::FakeChipMemory::Kind::cell)
                    auths.push_back(cell.auth);
            }
            return auths;
        };
        const auto before = cells();
        REQUIRE(before.size() == 1);
        REQUIRE(fine(f.renew(kind)));
        REQUIRE(cells().size() == 1);
        CHECK(cells() != before);
        f.stored(f.theirs, 1, "newer");
        f.reopen_unlocked();
        CHECK(f.loaded(f.theirs) == "newer");
    }
}

TEST_CASE("a new root key: after a crash at any moment no older copy passes for the newest") {
    for (const int kind : {0, 2}) {
        Full f;
        f.set_up_full({});
        const auto moments = f.moments_of(kind);
        for (std::size_t i = 0; i < moments.size(); ++i) {
            INFO("kind " << kind << ", before call " << i << " of " << moments.size());
            After host(moments[i]);
            host.chip.reset();
            REQUIRE(fine(host.vault->unlock()));
            REQUIRE(fine(host.vault->store(f.theirs, 1, permanent("newer"))));
            REQUIRE(fine(host.vault->close()));
            host.vault.reset();
            for (const Moment* const older : {&moments.front(), &moments[i]}) {
                Moment stolen(f, host.chip, f.for_successor);
                stolen.files = older->files;
                After thief(stolen);
                thief.chip.reset();
                CHECK_FALSE(thief.vault->unlock());
                CHECK_FALSE(thief.vault->unlock_with_keys(f.for_successor));
            }
        }
    }
}

TEST_CASE("engines are let in while keys are renewed") {
    for (int kind = 0; kind < 3; ++kind) {
        INFO("kind " << kind);
        Full f;
        f.set_up_full({});
        std::uint64_t sequence = 1;
        int times = 0;
        f.vault->let_in_meanwhile([&] {
            ++times;
            sequence = f.stored(f.theirs, sequence, "at " + std::to_string(times));
            CHECK(fine(f.vault->idle()));
            CHECK(f.loaded(f.theirs) == "at " + std::to_string(times));
            CHECK(fine(f.vault->unlock()));
            return true;
        });
        REQUIRE(fine(f.renew(kind)));
        // Before each of two groups, around the vault's own record, and before each group's key.
        CHECK(times == 4 + kind);
        f.reopen_unlocked();
        CHECK(f.loaded(f.theirs) == "at " + std::to_string(times));
    }
}

TEST_CASE("whoever wants to end ends a renewal, too, and the keys stay as they were") {
    for (int kind = 0; kind < Full::kinds; ++kind) {
        for (int last = 1; last <= 4; ++last) {
            INFO("kind " << kind << ", asked " << last << " times");
            Full f;
            f.set_up_full({});
            int times = 0;
            f.vault->let_in_meanwhile([&] { return ++times < last; });
            const auto renewed = f.renew(kind);
            CHECK(error_of(renewed) == Errc::locked);
            CHECK(renewed.error().next == NextAction::retry_later);
            CHECK(times == last);
            f.close();
            f.chip.reset();
            f.reopen();
            CHECK(fine(f.vault->unlock_with_keys(f.for_successor)));
            CHECK(f.loaded(f.theirs) == "their state");
            f.chip.reset();
            CHECK(After(Moment(f, f.chip, f.for_successor)).opens_with({}));
            CHECK(After(Moment(f, f.chip, f.for_successor)).indices() == 3);
        }
    }
}

TEST_CASE("a vault that gets locked while its keys are renewed stays as it was") {
    Full f;
    f.set_up_full({});
    auto cell = f.chip.memory()[0];
    f.vault->let_in_meanwhile([&] {
        cell = std::exchange(f.chip.memory()[0], {});
        f.stored(f.theirs, f.vault->get(f.theirs)->sequence, "newer");
        CHECK_FALSE(f.vault->close());
        CHECK(f.vault->status().phase == Phase::locked);
        CHECK(error_of(f.vault->unlock()) == Errc::locked);
        return true;
    });
    CHECK(error_of(f.vault->rotate_root()) == Errc::wrong_cell);
    f.vault->let_in_meanwhile({});
    CHECK(f.vault->status().phase == Phase::locked);
    f.chip.memory()[0] = cell;
    REQUIRE(fine(f.vault->unlock()));
    CHECK(f.loaded(f.theirs) == "newer");
    CHECK(After(Moment(f, f.chip, f.for_successor)).indices() == 3);
}

TEST_CASE("a renewal that failed is told, until what it has left is gone") {
    Full f;
    f.set_up_full({});
    const auto moments = f.moments_of(0);
    bool told = false;
    for (std::size_t nth = 8; nth + 8 < moments.size(); ++nth) {
        INFO("call " << nth);
        // The chip goes away, and what it was given stays in it.
        f.chip.on_call([&, calls = std::size_t{0}]() mutable {
            if (++calls == nth)
                f.chip.refuse(Error{Errc::unavailable, NextAction::retry_later, "gone"});
        });
        const auto done = f.vault->rotate_root();
        f.chip.on_call(nullptr);
        const auto status = f.vault->status();
        f.chip.refuse({});
        if (done)
            break;
        told = true;
        REQUIRE(status.reason);
        CHECK(status.reason->context.find("failed renewal") != std::string::npos);
        REQUIRE(fine(f.vault->idle()));
        CHECK_FALSE(f.vault->status().reason);
        CHECK(After(Moment(f, f.chip, f.for_successor)).indices() == 3);
    }
    CHECK(told);
}
