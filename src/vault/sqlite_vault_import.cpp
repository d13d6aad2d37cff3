// SqliteVault's tickets, and the instances that come for them.
#include <algorithm>

#include "sqlite_vault_parts.h"
#include "transfer.h"

namespace vtpm::vault {
namespace {

bool expired(const OpenTicket& ticket, std::int64_t now) {
    return now >= ticket.made && now - ticket.made >= ticket_seconds;
}

// What is left of the tickets when this package's is used.
Result<std::vector<OpenTicket>> use_ticket(std::vector<OpenTicket> tickets,
                                           const PackageHeader& header) {
    const auto ticket = std::find_if(tickets.begin(), tickets.end(), [&](const auto& open) {
        return equal_constant_time(open.nonce, header.nonce) && open.group == header.facts.group;
    });
    if (ticket == tickets.end())
        return fail(Errc::not_found,
                    "the ticket of this package is not open: it was used, or dropped when keys "
                    "were changed or the vault recovered, or never made here");
    if (expired(*ticket, unix_seconds()))
        return fail(Errc::not_found,
                    "the ticket of this package is older than 7 days; make another one, and "
                    "export the instance again (vtpmctl export --abort there, first)");
    tickets.erase(ticket);
    return tickets;
}

// The row's place. One that is no more may come back: exported from here, or deleted. What was
// deleted may have been a forged one, or made for a guest that started too early, and must not keep
// the true one away; that this one is wanted here is what the ticket says.
Result<std::int64_t> place_for(const InstanceTable& instances, const ParsedPackage& package) {
    const auto& facts = package.header.facts;
    const InstanceRow* const row = instances.find(facts.instance);
    if (row == nullptr) {
        VTPM_CHECK(check_no_doubt(instances));
        if (facts.instance.is_nil())
            return fail(Errc::malformed, "the nil uuid names nothing");
        if (instances.size() >= Vault::max_instances)
            return fail(Errc::too_large, "the vault holds no more instances");
        return instances.next_id();
    }
    if (row->deleted())
        return row->id;
    const auto move = Move::parse(row->move);
    if (!row->deleted() && !row->exported() && move && move->header == package.hash)
        return fail(Errc::already_exists,
                    "this package was imported already, as " + row->facts.name +
                        "; nothing was changed. For its receipt: vtpmctl import --again");
    return fail(Errc::already_exists,
                "instance " + facts.instance.to_string() +
                    (row->exported() ? " was exported from here; to have it back as it was: "
                                       "vtpmctl export --abort"
                                     : " is here already, as " + row->facts.name +
                                           "; if that is not the true one, delete it first"));
}

}  // namespace

Result<MadeTicket> SqliteVault::make_ticket(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(uuid));
    VTPM_TRY(const SecretBytes* const group_key, open->group_key(group->id));
    VTPM_TRY(const P256Key own, import_key(*group_key));
    VTPM_TRY(const SecretBytes nonce, random_secret(sizeof(Hash)));
    Ticket ticket;
    ticket.manager = disk_->record.manager;
    ticket.group = uuid;
    ticket.point = own.point();
    std::copy(nonce.view().begin(), nonce.view().end(), ticket.nonce.begin());
    ticket.made = unix_seconds();
    auto tickets = disk_->tickets;
    std::erase_if(tickets, [&](const auto& old) { return expired(old, ticket.made); });
    if (tickets.size() >= max_open_tickets)
        return fail(Errc::too_large, "there are 100 open tickets, which last 7 days each");
    tickets.push_back({ticket.nonce, ticket.group, ticket.made});
    MadeTicket made{ticket.bytes(), ticket.manager, uuid, ticket.made + ticket_seconds};
    VTPM_CHECK(
        make({.action = "ticket",
              .subject = fingerprint(made.bytes) + " for group " + subject_of(group->name, uuid),
              .tickets = std::move(tickets)},
             false));
    return made;
}

// The key of the group that a package is for, if it is one of ours.
Result<P256Key> SqliteVault::key_for(const PackageHeader& header) {
    const auto& facts = header.facts;
    if (facts.target != disk_->record.manager)
        return fail(Errc::invalid_argument, "this package is for manager " +
                                                facts.target.to_string() + ", and this is " +
                                                disk_->record.manager.to_string());
    VTPM_TRY(const GroupRecord* const group, disk_->live_group(facts.group));
    VTPM_TRY(const SecretBytes* const group_key, unlocked_->group_key(group->id));
    VTPM_TRY(P256Key own, import_key(*group_key));
    if (own.point() != header.point)
        return fail(Errc::not_found, "the key of group " + group->name +
                                         " is another one since the ticket was made; make another "
                                         "ticket and export the instance again");
    return own;
}

Result<Imported> SqliteVault::import_package(ByteView bytes, std::string_view name,
                                             ByteView policy) {
    if (policy.size() > max_policy_size)
        return fail(Errc::too_large,
                    "a command policy of more than " + std::to_string(max_policy_size) + " bytes");
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const ParsedPackage package, parse_package(bytes));
    const PackageHeader& header = package.header;
    const PackageFacts& facts = header.facts;
    VTPM_TRY(const P256Key own, key_for(header));
    VTPM_TRY(const SecretBytes package_key, open_package_key(package, own));
    VTPM_TRY(const std::vector<BlobChange> state, open_package_state(package, package_key));
    VTPM_TRY(const std::int64_t id, place_for(*open->instances, package));
    VTPM_TRY(auto tickets, use_ticket(disk_->tickets, header));
    InstanceRow row;
    row.facts.name = name.empty() ? facts.name : std::string(name);
    VTPM_CHECK(check_name(*open->instances, row.facts.name));
    row.id = id;
    row.group_id = disk_->find_group(facts.group)->id;
    row.facts.uuid = facts.instance;
    row.facts.tpm = facts.tpm;
    row.facts.sync = header.sync;
    row.facts.policy.assign(policy.begin(), policy.end());
    row.facts.group = facts.group;
    row.facts.generation = 1;
    row.facts.created = header.created;
    row.facts.peer = facts.source;
    row.facts.moved = unix_seconds();
    Move move;
    move.peer = facts.source;
    move.at = row.facts.moved;
    move.header = package.hash;
    row.move = move.bytes();
    VTPM_TRY(const SecretBytes key, random_secret(key_size));
    VTPM_TRY(const SecretBytes* const group_key, open->group_key(row.group_id));
    VTPM_TRY(row.wrapped_key, wrap_key(*group_key, key));
    RecordWriter write_state;
    if (!state.empty()) {
        VTPM_TRY(write_state, open->first_store(disk_->record.manager, key, state, row));
    }
    Imported imported{row.facts, make_receipt(facts, package.hash, package_key)};
    Change change{.action = "import",
                  .subject = subject_of(row.facts.name, row.facts.uuid) + " from manager " +
                             facts.source.to_string() + ", package " + fingerprint(bytes),
                  .tickets = std::move(tickets)};
    change.rows.push_back({std::move(row), write_state});
    VTPM_CHECK(make(std::move(change), true));
    VTPM_CHECK(fence());
    return imported;
}

Result<Imported> SqliteVault::receipt_again(ByteView bytes) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const ParsedPackage package, parse_package(bytes));
    VTPM_TRY(const P256Key own, key_for(package.header));
    VTPM_TRY(const SecretBytes package_key, open_package_key(package, own));
    const PackageFacts& facts = package.header.facts;
    VTPM_TRY(const InstanceRow* const row, open->served(facts.instance));
    const auto move = Move::parse(row->move);
    if (!move || move->header != package.hash)
        return fail(Errc::not_found,
                    "instance " + row->facts.name + " is here, but did not come in this package");
    Imported imported{row->facts, make_receipt(facts, package.hash, package_key)};
    VTPM_CHECK(fence());
    VTPM_CHECK(make({.action = "import-again",
                     .subject = "the receipt for " + subject_of(row->facts.name, facts.instance) +
                                " from manager " + facts.source.to_string() + ", package " +
                                fingerprint(bytes)},
                    false));
    return imported;
}

}  // namespace vtpm::vault
