// An instance that moves from one manager to another.
#include <algorithm>

#include "two_hosts.h"

using namespace vtpm;
using namespace vtpm::vault;

namespace {

std::string context_of(const auto& result) {
    return result ? std::string("(no error)") : result.error().context;
}

}  // namespace

TEST_CASE("an instance moves: ticket, package, receipt, and it is gone where it was") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    std::vector<BlobChange> more;
    more.push_back({BlobKind::volatile_state, secret_of("volatile")});
    REQUIRE(fine(h.source.vault->store(web1, 1, more)));
    const Instance before = *h.source.vault->get(web1);

    const auto ticket = h.target.vault->make_ticket(h.target.group());
    REQUIRE(fine(ticket));
    CHECK(ticket->manager == h.target.vault->status().manager);
    const auto exported = h.source.vault->export_instance(web1, ticket->bytes, false);
    REQUIRE(fine(exported));
    CHECK(exported->instance.state == InstanceState::exported);
    CHECK(exported->instance.peer == ticket->manager);
    const std::string text(exported->package.begin(), exported->package.end());
    CHECK(text.find("its state") == std::string::npos);

    // It is of no use here any more, and says why.
    for (int round = 0; round < 2; ++round) {
        const auto loaded = h.source.vault->load(web1);
        CHECK(error_of(loaded) == Errc::in_use);
        CHECK(context_of(loaded).find(ticket->manager.to_string()) != std::string::npos);
        CHECK(error_of(h.source.vault->store(web1, 2, permanent("x"))) == Errc::in_use);
        CHECK(error_of(h.source.vault->check_usable(web1)) == Errc::in_use);
        CHECK(error_of(h.source.vault->rename(web1, "other")) == Errc::in_use);
        CHECK(error_of(h.source.vault->rotate_instance(web1)) == Errc::in_use);
        CHECK(h.source.vault->list()->at(0).state == InstanceState::exported);
        h.source.reopen();
    }
    const auto facts = read_package(exported->package);
    REQUIRE(fine(facts));
    CHECK(facts->name == "web1");
    CHECK(facts->instance == web1);
    CHECK(facts->sequence == 2);

    const Bytes policy{1, 2, 3};
    const auto imported = h.target.vault->import_package(exported->package, "", policy);
    CHECK(h.target.vault->get(web1)->policy == policy);  // of here
    CHECK(error_of(h.target.vault->import_package(
              exported->package, "", Bytes(Vault::max_policy_size + 1))) == Errc::too_large);
    REQUIRE(fine(imported));
    CHECK(imported->instance.uuid == web1);
    CHECK(imported->instance.peer == h.source.vault->status().manager);
    h.target.reopen();
    const Instance after = *h.target.vault->find("web1");
    CHECK(after.state == InstanceState::live);
    CHECK(after.created == before.created);
    CHECK(after.sequence == 1);
    CHECK(h.target.loaded(web1) == "its state");
    CHECK(blob_of(*h.target.vault->load(web1), BlobKind::volatile_state) == "volatile");
    CHECK(fine(h.target.vault->store(web1, 1, permanent("goes on"))));

    const auto gone = h.source.vault->confirm_export(web1, imported->receipt);
    REQUIRE(fine(gone));
    CHECK(gone->state == InstanceState::deleted);
    CHECK(h.source.vault->list()->empty());
    CHECK(error_of(h.source.vault->load(web1)) == Errc::not_found);
    CHECK(error_of(h.source.vault->export_instance(web1, ticket->bytes, false)) == Errc::not_found);
    CHECK(error_of(h.source.vault->abort_export(web1)) == Errc::not_found);
    const auto done = h.source.actions();
    CHECK(std::count(done.begin(), done.end(), "export") == 1);
    CHECK(std::count(done.begin(), done.end(), "export-confirm") == 1);
    const auto there = h.target.actions();
    CHECK(std::count(there.begin(), there.end(), "ticket") == 1);
    CHECK(std::count(there.begin(), there.end(), "import") == 1);
}

TEST_CASE("an instance comes back with what it learned elsewhere") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "here");
    const auto there =
        h.target.vault->import_package(h.source.exported(web1, h.target.ticket()), "guest", {});
    REQUIRE(fine(there));
    CHECK(there->instance.name == "guest");
    REQUIRE(fine(h.target.vault->store(web1, 1, permanent("there"))));
    const Bytes back_ticket = h.source.ticket();
    const Bytes package = h.target.exported(web1, back_ticket);
    // Not while the copy that was sent is still here.
    const auto early = h.source.vault->import_package(package, "", {});
    CHECK(error_of(early) == Errc::already_exists);
    CHECK(context_of(early).find("exported from here") != std::string::npos);
    REQUIRE(fine(h.source.vault->confirm_export(web1, there->receipt)));
    const auto back = h.source.vault->import_package(package, "", {});
    REQUIRE(fine(back));
    REQUIRE(fine(h.target.vault->confirm_export(web1, back->receipt)));
    h.source.reopen();
    CHECK(h.source.loaded(web1) == "there");
    CHECK(h.source.vault->find("guest")->uuid == web1);
    CHECK(h.target.vault->list()->empty());
}

TEST_CASE("an instance that was never stored moves as what it is") {
    TwoHosts h;
    const Uuid fresh = h.source.made("fresh", "");
    REQUIRE(
        fine(h.target.vault->import_package(h.source.exported(fresh, h.target.ticket()), "", {})));
    h.target.reopen();
    const auto state = h.target.vault->load(fresh);
    REQUIRE(fine(state));
    CHECK(state->sequence == 0);
    CHECK(state->blobs.empty());
}

TEST_CASE("every byte of a ticket, a package and a receipt counts") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes ticket = h.target.ticket();
    for (std::size_t at = 0; at < ticket.size(); ++at) {
        INFO("byte " << at << " of the ticket");
        Bytes bad = ticket;
        bad[at] ^= 1U;
        CHECK_FALSE(h.source.vault->export_instance(web1, bad, false));
        bad.resize(at);
        CHECK_FALSE(h.source.vault->export_instance(web1, bad, false));
    }
    CHECK(h.source.vault->get(web1)->state == InstanceState::live);

    const Bytes package = h.source.exported(web1, ticket);
    const std::size_t before = h.target.actions().size();
    for (std::size_t at = 0; at < package.size(); ++at) {
        INFO("byte " << at << " of the package");
        for (const unsigned bit : {0x01U, 0x80U}) {
            Bytes bad = package;
            bad[at] = static_cast<std::uint8_t>(bad[at] ^ bit);
            CHECK_FALSE(h.target.vault->import_package(bad, "", {}));
        }
        Bytes cut = package;
        cut.resize(at);
        CHECK(error_of(h.target.vault->import_package(cut, "", {})) == Errc::malformed);
    }
    Bytes longer = package;
    longer.push_back(0);
    CHECK(error_of(h.target.vault->import_package(longer, "", {})) == Errc::malformed);
    longer.resize(max_package_size + 1);
    CHECK(error_of(h.target.vault->import_package(longer, "", {})) == Errc::too_large);
    CHECK(h.target.vault->list()->empty());
    CHECK(h.target.actions().size() == before);

    const auto imported = h.target.vault->import_package(package, "", {});
    REQUIRE(fine(imported));
    for (std::size_t at = 0; at < imported->receipt.size(); ++at) {
        Bytes bad = imported->receipt;
        bad[at] ^= 1U;
        CHECK(error_of(h.source.vault->confirm_export(web1, bad)) == Errc::corrupt);
    }
    CHECK(error_of(h.source.vault->confirm_export(web1, {})) == Errc::corrupt);
    CHECK(h.source.vault->get(web1)->state == InstanceState::exported);
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
}

TEST_CASE("a ticket is good for one instance, once") {
    TwoHosts h;
    const Uuid a = h.source.made("a", "state of a");
    const Uuid b = h.source.made("b", "state of b");
    const Bytes ticket = h.target.ticket();
    const Bytes of_a = h.source.exported(a, ticket);
    const Bytes of_b = h.source.exported(b, ticket);
    const auto imported = h.target.vault->import_package(of_a, "", {});
    REQUIRE(fine(imported));
    const auto second = h.target.vault->import_package(of_b, "", {});
    CHECK(error_of(second) == Errc::not_found);
    CHECK(context_of(second).find("was used") != std::string::npos);
    CHECK(error_of(h.target.vault->import_package(of_a, "", {})) == Errc::already_exists);
    CHECK(error_of(h.target.vault->import_package(of_a, "twin", {})) == Errc::already_exists);
    CHECK(h.target.vault->list()->size() == 1);
    h.target.reopen();
    CHECK(error_of(h.target.vault->import_package(of_b, "", {})) == Errc::not_found);

    // The receipt that was lost, of this package and of no other.
    const auto again = h.target.vault->receipt_again(of_a);
    REQUIRE(fine(again));
    CHECK(again->receipt == imported->receipt);
    CHECK(error_of(h.target.vault->receipt_again(of_b)) == Errc::not_found);
    CHECK(error_of(h.source.vault->confirm_export(b, again->receipt)) == Errc::corrupt);
    CHECK(fine(h.source.vault->confirm_export(a, again->receipt)));

    // Not after the instance was deleted, either.
    REQUIRE(fine(h.target.vault->remove(a)));
    CHECK(error_of(h.target.vault->import_package(of_a, "", {})) == Errc::not_found);
    CHECK(error_of(h.target.vault->receipt_again(of_a)) == Errc::not_found);

    // Of b nobody has heard: it may go on here, or for another ticket.
    const auto other = h.source.vault->export_instance(b, h.target.ticket(), false);
    CHECK(error_of(other) == Errc::already_exists);
    const auto back = h.source.vault->abort_export(b);
    REQUIRE(fine(back));
    CHECK(back->state == InstanceState::live);
    CHECK(h.source.loaded(b) == "state of b");
    CHECK(error_of(h.source.vault->abort_export(b)) == Errc::invalid_argument);
    CHECK(fine(h.target.vault->import_package(h.source.exported(b, h.target.ticket()), "", {})));
    const auto done = h.source.actions();
    CHECK(std::count(done.begin(), done.end(), "export-abort") == 1);
}

TEST_CASE("the package is given again for its ticket, and opens as the first one does") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes ticket = h.target.ticket();
    const Bytes first = h.source.exported(web1, ticket);
    h.source.reopen();
    const Bytes second = h.source.exported(web1, ticket);
    CHECK(first != second);
    const auto imported = h.target.vault->import_package(second, "", {});
    REQUIRE(fine(imported));
    CHECK(error_of(h.target.vault->import_package(first, "", {})) == Errc::already_exists);
    REQUIRE(fine(h.target.vault->receipt_again(second)));
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
    // Each time there is a line about who has asked for it.
    const auto times = [](Host& host, const char* action) {
        const auto done = host.actions();
        return std::count(done.begin(), done.end(), action);
    };
    CHECK(times(h.source, "export") == 1);
    CHECK(times(h.source, "export-again") == 1);
    CHECK(times(h.target, "import") == 1);
    CHECK(times(h.target, "import-again") == 1);
}

TEST_CASE("a package is for one manager and one group, while the group is open") {
    TwoHosts h;
    Host third(3);
    const auto tenant = h.target.vault->create_group("tenant", {});
    REQUIRE(fine(tenant));
    const Uuid web1 = h.source.made("web1", "its state");
    const auto ticket = h.target.vault->make_ticket(tenant->uuid);
    REQUIRE(fine(ticket));
    const auto home = h.source.vault->export_instance(web1, h.source.ticket(), false);
    CHECK(error_of(home) == Errc::invalid_argument);
    CHECK(h.source.vault->get(web1)->state == InstanceState::live);
    const Bytes package = h.source.exported(web1, ticket->bytes);

    const auto elsewhere = third.vault->import_package(package, "", {});
    CHECK(error_of(elsewhere) == Errc::invalid_argument);
    CHECK(context_of(elsewhere).find(h.target.vault->status().manager.to_string()) !=
          std::string::npos);
    CHECK(third.vault->list()->empty());

    REQUIRE(fine(h.target.vault->close_group(tenant->uuid)));
    const auto closed = h.target.vault->import_package(package, "", {});
    CHECK(error_of(closed) == Errc::locked);
    CHECK(context_of(closed).find("closed") != std::string::npos);
    CHECK(error_of(h.target.vault->make_ticket(tenant->uuid)) == Errc::locked);
    CHECK(h.target.vault->list()->empty());
    REQUIRE(fine(h.target.vault->open_group(tenant->uuid)));
    const auto imported = h.target.vault->import_package(package, "", {});
    REQUIRE(fine(imported));
    CHECK(imported->instance.group == tenant->uuid);
    CHECK(h.target.loaded(web1) == "its state");
}

TEST_CASE("tickets go with their group's key, and there are not too many") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes package = h.source.exported(web1, h.target.ticket());
    REQUIRE(fine(h.target.vault->rotate_group(h.target.group())));
    CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::not_found);
    for (std::size_t i = 0; i < max_open_tickets; ++i)
        REQUIRE(fine(h.target.vault->make_ticket(h.target.group())));
    CHECK(error_of(h.target.vault->make_ticket(h.target.group())) == Errc::too_large);
    REQUIRE(fine(h.target.vault->rotate_group(h.target.group())));
    CHECK(fine(h.target.vault->make_ticket(h.target.group())));
    h.target.reopen();
    CHECK(error_of(h.target.vault->make_ticket(Uuid::random())) == Errc::not_found);
}

TEST_CASE("a name that is taken at the target, and a target that is full of doubt") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    h.target.made("web1", "another");
    const Bytes package = h.source.exported(web1, h.target.ticket());
    CHECK(error_of(h.target.vault->import_package(package, "", {})) == Errc::already_exists);
    CHECK(error_of(h.target.vault->import_package(package, "a b", {})) == Errc::invalid_argument);
    // The ticket was not spent by that.
    CHECK(fine(h.target.vault->import_package(package, "web2", {})));
}

TEST_CASE("an exported instance survives new keys of its group and of the vault") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes ticket = h.target.ticket();
    h.source.exported(web1, ticket);
    REQUIRE(fine(h.source.vault->rotate_group(h.source.group())));
    REQUIRE(fine(h.source.vault->rotate_root()));
    h.source.reopen();
    const auto imported = h.target.vault->import_package(h.source.exported(web1, ticket), "", {});
    REQUIRE(fine(imported));
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
}

TEST_CASE("a false instance, once it is deleted, does not keep the true one away") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    Bytes ticket = h.target.ticket();
    SECTION("another's package for the same ticket came first") {
        // Whoever has seen the ticket and knows the uuid can make one.
        Host forger(3);
        REQUIRE(fine(forger.vault->create({.name = "web1", .tpm = 2, .uuid = web1})));
        REQUIRE(fine(forger.vault->store(web1, 0, permanent("forged"))));
        const Bytes forged = forger.exported(web1, ticket);
        const auto imported = h.target.vault->import_package(forged, "", {});
        REQUIRE(fine(imported));
        h.source.exported(web1, ticket);
        CHECK(error_of(h.source.vault->confirm_export(web1, imported->receipt)) == Errc::corrupt);
        REQUIRE(fine(h.source.vault->abort_export(web1)));
        ticket = h.target.ticket();
    }
    SECTION("a guest was started too early, and got a new one") {
        REQUIRE(fine(h.target.vault->create({.name = "auto", .tpm = 2, .uuid = web1})));
        REQUIRE(fine(h.target.vault->store(web1, 0, permanent("an empty TPM"))));
    }
    const Bytes package = h.source.exported(web1, ticket);
    const auto refused = h.target.vault->import_package(package, "", {});
    CHECK(error_of(refused) == Errc::already_exists);
    CHECK(context_of(refused).find("delete it first") != std::string::npos);
    REQUIRE(fine(h.target.vault->remove(web1)));
    // Its uuid is still taken for anybody else.
    CHECK(error_of(h.target.vault->create({.name = "web2", .tpm = 2, .uuid = web1})) ==
          Errc::already_exists);
    h.target.reopen();
    const auto imported = h.target.vault->import_package(package, "", {});
    REQUIRE(fine(imported));
    CHECK(h.target.loaded(web1) == "its state");
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
    h.target.reopen();
    CHECK(h.target.loaded(web1) == "its state");
}

TEST_CASE("a package that is refused leaves nothing behind that stops the true one") {
    TwoHosts h;
    const Uuid web1 = h.source.made("web1", "its state");
    const Bytes ticket = h.target.ticket();
    const Bytes package = h.source.exported(web1, ticket);
    for (std::size_t at = 0; at < package.size(); at += 7) {
        Bytes forged = package;
        forged[at] ^= 1U;
        CHECK_FALSE(h.target.vault->import_package(forged, "", {}));
    }
    h.target.reopen();
    const auto imported = h.target.vault->import_package(package, "", {});
    REQUIRE(fine(imported));
    CHECK(fine(h.source.vault->confirm_export(web1, imported->receipt)));
}
