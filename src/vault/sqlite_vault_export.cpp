// SqliteVault's instances on their way to another manager. The order is the fence: the instance is
// used here no more, the chip knows that, and only then there is a package.
#include <ctime>

#include "sqlite_vault_parts.h"
#include "transfer.h"

namespace vtpm::vault {
namespace {

std::string day_of(std::int64_t seconds) {
    const std::time_t at = seconds;
    std::tm parts{};
    std::array<char, 32> text{};
    if (::gmtime_r(&at, &parts) == nullptr ||
        std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts) == 0)
        return "an unknown day";
    return text.data();
}

Result<Move> move_of(const InstanceRow& row) {
    if (!row.exported())
        return fail(Errc::invalid_argument, "instance " + row.facts.name + " is not exported");
    return Move::parse(row.move);
}

// The same each time for the same ticket.
PackageHeader header_of(const InstanceRow& row, const Move& move, const Uuid& source,
                        const Ticket& ticket) {
    PackageHeader header;
    header.facts = {source,         ticket.manager, ticket.group,       row.facts.uuid,
                    row.facts.name, row.facts.tpm,  row.facts.sequence, row.facts.policy};
    header.nonce = ticket.nonce;
    header.point = ticket.point;
    header.sync = row.facts.sync;
    header.created = row.facts.created;
    header.exported = move.at;
    for (const BlobKind kind : blob_kinds) {
        if (row.digests[index_of(kind)])
            header.blobs.emplace_back(kind, row.sizes[index_of(kind)]);
    }
    return header;
}

// They do not travel, and nobody shall find that out afterwards.
Result<void> check_snapshots(const InstanceRow& row, bool leave_them) {
    if (row.snapshots.empty() || leave_them)
        return {};
    return fail(Errc::invalid_argument,
                "instance " + row.facts.name + " has " + std::to_string(row.snapshots.size()) +
                    " snapshot(s), which do not go along: delete them (vtpmctl delete-snapshot), "
                    "or leave them behind, where they are destroyed with the instance once its "
                    "export is confirmed: --without-snapshots");
}

// The package does not have it: for the journal, which stays.
std::string past_that_stays(const Instance& facts) {
    std::string past;
    if (facts.reverts > 0)
        past += ", reverts " + std::to_string(facts.reverts);
    if (facts.clones > 0)
        past += ", clones made of it " + std::to_string(facts.clones);
    if (!facts.origin.is_nil())
        past += ", a clone of " + facts.origin.to_string();
    return past.empty() ? past : "; not in the package" + past;
}

std::string words_about(const Instance& facts, const Uuid& peer, const Hash& ticket) {
    return subject_of(facts.name, facts.uuid) + " to manager " + peer.to_string() + ", ticket " +
           to_hex(ticket).substr(0, 16);
}

Result<void> check_usable_ticket(const Ticket& ticket, const Uuid& own) {
    if (ticket.manager == own)
        return fail(Errc::invalid_argument, "this ticket was made by this very manager");
    if (ticket.expired(unix_seconds()))
        return fail(Errc::invalid_argument,
                    "this ticket is of " + day_of(ticket.made) +
                        ", older than 7 days; make another one there: vtpmctl ticket");
    return {};
}

}  // namespace

Error exported_away(const InstanceRow& row) {
    const auto& facts = row.facts;
    return {Errc::in_use, NextAction::ask_operator,
            "instance " + facts.name + " was exported to manager " + facts.peer.to_string() +
                " on " + day_of(facts.moved) +
                "; if it was imported there: vtpmctl export --confirm RECEIPT, and if it never "
                "will be: vtpmctl export --abort --yes"};
}

// Whatever was changed so far is known to the chip, so that no older copy of the disk can bring
// back what was before; or this is an error, and nothing may leave.
Result<void> SqliteVault::fence() {
    VTPM_TRY(Unlocked* const open, unlocked());
    if (open->epochs->writes() == 0)
        return {};
    auto done = commit_epoch();
    if (!done)
        return tl::make_unexpected(std::move(done).error().within(
            "the change is on the disk, but the chip has not taken it yet; repeat the command"));
    return {};
}

Result<Exported> SqliteVault::export_instance(const Uuid& uuid, ByteView ticket_bytes,
                                              bool leave_snapshots) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const row, open->usable(uuid));
    VTPM_TRY(const Ticket ticket, Ticket::parse(ticket_bytes));
    const Hash hash = sha256(ticket_bytes);
    const bool again = row->exported();
    const std::string what = words_about(row->facts, ticket.manager, hash);
    if (!again) {
        VTPM_CHECK(check_snapshots(*row, leave_snapshots));
        VTPM_CHECK(part_with(*row, ticket, hash));
    } else if (const auto move = Move::parse(row->move);
               !move || !equal_constant_time(move->ticket, hash)) {
        return fail(Errc::already_exists, exported_away(*row).context +
                                              ". The package is given again for the ticket it "
                                              "was made for, and for no other");
    }
    VTPM_CHECK(fence());
    if (again)  // nothing that a fence is needed for
        VTPM_CHECK(make({.action = "export-again", .subject = what}, false));
    return package_for(uuid, ticket);
}

Result<void> SqliteVault::part_with(const InstanceRow& old, const Ticket& ticket,
                                    const Hash& ticket_hash) {
    Unlocked& open = *unlocked_;
    VTPM_CHECK(check_usable_ticket(ticket, disk_->record.manager));
    VTPM_CHECK(load(old.facts.uuid));  // what cannot be read stays where it is
    VTPM_TRY(const SecretBytes key, open.instance_key(old));
    VTPM_TRY(const SecretBytes package_key, random_secret(key_size));
    Move move;
    move.peer = ticket.manager;
    move.at = unix_seconds();
    move.ticket = ticket_hash;
    VTPM_TRY(move.wrapped_key, wrap_key(key, package_key));
    InstanceRow row = old;
    move.header = sha256(header_of(row, move, disk_->record.manager, ticket).bytes());
    row.facts.state = InstanceState::exported;
    row.facts.peer = move.peer;
    row.facts.moved = move.at;
    row.move = move.bytes();
    Change change{
        .action = "export",
        .subject = words_about(row.facts, move.peer, ticket_hash) + past_that_stays(row.facts)};
    change.rows.push_back({std::move(row)});
    return make(std::move(change), true);
}

Result<Exported> SqliteVault::package_for(const Uuid& uuid, const Ticket& ticket) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const LoadedState state, read_state(uuid));
    VTPM_TRY(const InstanceRow* const row, open->usable(uuid));
    VTPM_TRY(const Move move, move_of(*row));
    VTPM_TRY(const SecretBytes key, open->instance_key(*row));
    VTPM_TRY(const SecretBytes package_key, unwrap_key(key, move.wrapped_key));
    const PackageHeader header = header_of(*row, move, disk_->record.manager, ticket);
    if (sha256(header.bytes()) != move.header)
        return fail(Errc::corrupt, "the instance is not as it was when it was exported");
    Exported out;
    VTPM_TRY(out.package, seal_package(header, package_key, state));
    out.instance = row->facts;
    return out;
}

Result<Instance> SqliteVault::confirm_export(const Uuid& uuid, ByteView receipt) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->usable(uuid));
    VTPM_TRY(Move move, move_of(*old));
    VTPM_TRY(const SecretBytes key, open->instance_key(*old));
    VTPM_TRY(const SecretBytes package_key, unwrap_key(key, move.wrapped_key));
    PackageFacts facts;
    facts.target = move.peer;
    facts.instance = uuid;
    if (!equal_constant_time(make_receipt(facts, move.header, package_key), receipt))
        return fail(Errc::corrupt, "this is not the receipt for the package that instance " +
                                       old->facts.name + " left in; nothing was changed");
    InstanceRow row = *old;
    move.wrapped_key.clear();
    row.move = move.bytes();
    Instance gone = row.facts;
    gone.state = InstanceState::deleted;
    VTPM_CHECK(erase(std::move(row), "export-confirm", ", is at manager " + move.peer.to_string()));
    return gone;
}

Result<Instance> SqliteVault::abort_export(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->usable(uuid));
    VTPM_TRY(const Move move, move_of(*old));
    InstanceRow row = *old;
    row.facts.state = InstanceState::live;
    row.facts.peer = {};
    row.facts.moved = 0;
    row.move.clear();
    Instance back = row.facts;
    Change change{.action = "export-abort",
                  .subject = subject_of(back.name, uuid) + " lives here again; manager " +
                             move.peer.to_string() + " may have it, too"};
    change.rows.push_back({std::move(row)});
    VTPM_CHECK(make(std::move(change), true));
    return back;
}

}  // namespace vtpm::vault
