#include "ticket_table.h"

#include "columns.h"

namespace vtpm::vault {

Result<std::vector<OpenTicket>> read_tickets(Database& database) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT nonce, group_uuid, made FROM tickets ORDER BY id"));
    VTPM_CHECK(query.start());
    std::vector<OpenTicket> tickets;
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return tickets;
        Columns columns(query);
        OpenTicket ticket;
        ticket.nonce = columns.hash();
        ticket.group = columns.uuid();
        ticket.made = columns.integer();
        if (!columns.sound())
            return fail(Errc::corrupt, "a row of the tickets in vault.db is damaged");
        tickets.push_back(ticket);
    }
}

Result<void> write_tickets(Database& database, const std::vector<OpenTicket>& tickets) {
    VTPM_CHECK(database.run("DELETE FROM tickets"));
    VTPM_TRY(Statement put,
             database.prepare("INSERT INTO tickets(nonce, group_uuid, made) VALUES(?, ?, ?)"));
    for (const auto& ticket : tickets)
        VTPM_CHECK(put.run(ByteView(ticket.nonce), ticket.group.bytes(), ticket.made));
    return {};
}

Hash digest_of(const std::vector<OpenTicket>& tickets) {
    ByteWriter writer;
    writer.sized(as_bytes("xen-vtpm tickets")).u64(tickets.size());
    for (const auto& ticket : tickets)
        writer.bytes(ticket.nonce)
            .bytes(ticket.group.bytes())
            .u64(static_cast<std::uint64_t>(ticket.made));
    return sha256(writer.written());
}

}  // namespace vtpm::vault
