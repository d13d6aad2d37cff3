// Moves whose chip, disk or power fails at a step, and disks that are put back to before one.
#include "image.h"
#include "two_hosts.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace fs = std::filesystem;

namespace {

void roll_back(Host& host, const Image& older) {
    host.vault.reset();
    older.put_back();
    host.vault.emplace(host.directory(), host.chip);
}

}  // namespace

TEST_CASE("no package leaves before the chip knows that the instance has gone") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes ticket = h.target.ticket();
    REQUIRE(fine(h.source.vault->close()));
    const Image before(h.source.directory());
    h.source.chip.refuse(chip_gone);
    for (int round = 0; round < 2; ++round) {
        const auto refused = h.source.vault->export_instance(web1, ticket, false);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::unavailable);
        CHECK(refused.error().next == NextAction::retry_later);
        CHECK(error_of(h.source.vault->load(web1)) == Errc::in_use);
    }
    h.source.chip.refuse(std::nullopt);

    SECTION("the same command gives it when the chip is back") {
        const Bytes package = h.source.exported(web1, ticket);
        // And from then on the disk of before is an older one.
        roll_back(h.source, before);
        CHECK(error_of(h.source.vault->unlock()) == Errc::rolled_back);
        CHECK(fine(h.target.vault->import_package(package, "", {})));
    }
    SECTION("or after a crash") {
        h.source.reopen();
        CHECK(error_of(h.source.vault->load(web1)) == Errc::in_use);
        CHECK(fine(h.target.vault->import_package(h.source.exported(web1, ticket), "", {})));
    }
    SECTION("or the operator thinks better of it") {
        REQUIRE(fine(h.source.vault->abort_export(web1)));
        CHECK(h.source.loaded(web1) == "its state");
    }
}

TEST_CASE(
    "a chip that fails at any call of an export: fenced or not begun, and it can be repeated") {
    bool undisturbed = false;
    for (int nth = 1; !undisturbed; ++nth) {
        INFO("call " << nth);
        TwoHosts h;
        const Uuid web1 = h.source.made("web1", "its state");
        const Bytes ticket = h.target.ticket();
        const int before = h.source.chip.calls();
        h.source.chip.fail_nth(nth, chip_gone);
        const auto first = h.source.vault->export_instance(web1, ticket, false);
        undisturbed = h.source.chip.calls() - before < nth;
        const Image at_the_crash(h.source.directory());
        h.source.chip.fail_nth(0, chip_gone);
        h.source.reopen();
        if (first)
            CHECK(h.source.vault->get(web1)->state == InstanceState::exported);
        const Bytes package = h.source.exported(web1, ticket);
        const auto imported =
            h.target.vault->import_package(first ? first->package : package, "", {});
        REQUIRE(fine(imported));
        CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
        CHECK(h.target.loaded(web1) == "its state");
        REQUIRE(nth < 50);
    }
}

TEST_CASE("a chip that fails at any call of an import: no receipt that a power cut can take back") {
    bool undisturbed = false;
    for (int nth = 1; !undisturbed; ++nth) {
        INFO("call " << nth);
        TwoHosts h;
        const Uuid web1 = h.source.made("web1", "its state");
        const Bytes package = h.source.exported(web1, h.target.ticket());
        REQUIRE(fine(h.target.vault->close()));
        const Image before(h.target.directory());
        const int calls = h.target.chip.calls();
        h.target.chip.fail_nth(nth, chip_gone);
        auto imported = h.target.vault->import_package(package, "", {});
        undisturbed = h.target.chip.calls() - calls < nth;
        h.target.chip.fail_nth(0, chip_gone);
        if (imported) {
            // Who has the receipt may erase the source; so the target must not forget.
            const Image after(h.target.directory());
            roll_back(h.target, before);
            CHECK(error_of(h.target.vault->unlock()) == Errc::rolled_back);
            roll_back(h.target, after);
        }
        h.target.reopen();
        CHECK(h.target.vault->list()->size() == 1);
        CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::already_exists);
        imported = h.target.vault->receipt_again(package);
        REQUIRE(fine(imported));
        CHECK(h.target.loaded(web1) == "its state");
        CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
        REQUIRE(nth < 50);
    }
}

TEST_CASE("while the target's chip is away there is no receipt") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes package = h.source.exported(web1, h.target.ticket());
    h.target.chip.refuse(chip_gone);
    CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::unavailable);
    CHECK(error_of(h.target.vault->receipt_again(package)) == Errc::unavailable);
    h.target.chip.refuse(std::nullopt);
    const auto imported = h.target.vault->receipt_again(package);
    REQUIRE(fine(imported));
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
}

TEST_CASE("a used ticket does not come back with an older disk") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes package = h.source.exported(web1, h.target.ticket());
    REQUIRE(fine(h.target.vault->close()));
    const Image before(h.target.directory());
    REQUIRE(fine(h.target.vault->import_package(package, "", {})));
    REQUIRE(fine(h.target.vault->remove(web1)));

    roll_back(h.target, before);
    CHECK(error_of(h.target.vault->unlock()) == Errc::rolled_back);
    CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::locked);

    // Nor with an operator who takes that disk for the newest.
    REQUIRE(fine(h.target.vault->recover({})));
    CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::not_found);
    CHECK(h.target.vault->list()->empty());

    // Nor by hand.
    h.target.ticket();
    REQUIRE(fine(h.target.vault->close()));
    h.target.vault.reset();
    sql(h.target.database(), "UPDATE tickets SET made = made + 1");
    h.target.vault.emplace(h.target.directory(), h.target.chip);
    CHECK(error_of(h.target.vault->unlock()) == Errc::corrupt);
}

TEST_CASE("tickets and what is known of moves are part of what verifies") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    h.source.exported(web1, h.target.ticket());
    h.source.vault.reset();
    const Bytes move = blob(h.source.database(), "SELECT move FROM instances");
    for (std::size_t at = 0; at < move.size(); ++at) {
        INFO("byte " << at << " of what is known of the move");
        Bytes bad = move;
        bad[at] ^= 1U;
        h.source.vault.reset();
        sql(h.source.database(), "UPDATE instances SET move = x'" + to_hex(bad) + "'");
        h.source.vault.emplace(h.source.directory(), h.source.chip);
        REQUIRE(fine(h.source.vault->unlock()));
        CHECK(error_of(h.source.vault->load(web1)) == Errc::corrupt);
    }
    h.source.vault.reset();
    sql(h.source.database(), "UPDATE instances SET state = 1, move = x'" + to_hex(move) + "'");
    h.source.vault.emplace(h.source.directory(), h.source.chip);
    REQUIRE(fine(h.source.vault->unlock()));
    CHECK(error_of(h.source.vault->load(web1)) == Errc::corrupt);
    h.source.vault.reset();
    sql(h.source.database(), "UPDATE instances SET state = 2, move = NULL");
    h.source.vault.emplace(h.source.directory(), h.source.chip);
    REQUIRE(fine(h.source.vault->unlock()));
    CHECK(error_of(h.source.vault->load(web1)) == Errc::corrupt);

    h.target.vault.reset();
    sql(h.target.database(), "DELETE FROM tickets");
    h.target.vault.emplace(h.target.directory(), h.target.chip);
    CHECK(error_of(h.target.vault->unlock()) == Errc::corrupt);
}
