// What people carry between two managers: tickets, packages and receipts with bytes changed, and
// packages that a hostile manager made and sealed for a ticket of ours, with whatever in them.
#include "manager_world.h"
#include "vault/key_bundle.h"
#include "vault/recovery_key.h"
#include "vault/transfer.h"
#include "vtpm/vault/escrow.h"

using namespace vtpm;
using namespace vtpm::fuzz;
using namespace vtpm::vault;

namespace {

Uuid a_uuid(Input& input) {
    if (input.rarely())
        return Uuid();
    if (!input.rarely())
        return Uuid::random();
    const auto& all = Prepared::get().uuids;
    auto chosen = all.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(input.pick(all.size())));
    return chosen->second;
}

struct Forged {
    PackageHeader header;
    Bytes bytes;
};

// By somebody who has our ticket, and software of his own.
Forged forge(const Ticket& ticket, Input& input) {
    PackageHeader header;
    header.facts = {.source = Uuid::random(),
                    .target = ticket.manager,
                    .group = ticket.group,
                    .instance = a_uuid(input),
                    .name = "moved",
                    .tpm = 2,
                    .sequence = 1};
    if (input.rarely())
        header.facts.name = input.text(80);
    if (input.rarely())
        header.facts.tpm = input.u8();
    if (input.rarely())
        header.facts.sequence = input.flag() ? input.u64() : ~std::uint64_t{0} - input.pick(3);
    if (input.rarely())
        (input.flag() ? header.facts.target : header.facts.group) = a_uuid(input);
    header.nonce = ticket.nonce;
    header.point = ticket.point;
    header.sync = input.rarely();
    header.created = static_cast<std::int64_t>(input.rarely() ? input.u64() : 1);
    header.exported = static_cast<std::int64_t>(input.rarely() ? input.u64() : 1);
    LoadedState state;
    const std::size_t blobs = input.rarely() ? input.pick(5) : 1;
    for (std::size_t i = 0; i < blobs; ++i) {
        const auto kind = static_cast<BlobKind>(input.rarely() ? input.u8() : 1 + i);
        SecretBytes content(input.rarely() ? input.edgy() % 600'000 : 1 + input.pick(100));
        header.blobs.emplace_back(kind, content.size());
        state.blobs.emplace_back(kind, std::move(content));
    }
    SecretBytes key(32);
    auto sealed = seal_package(header, key, state);
    return {header, sealed ? std::move(*sealed) : Bytes()};
}

void import(World& world, const Fd& client, Input& input) {
    const auto group = sure(world.vault().find_group("")).uuid;
    const auto made = sure(world.vault().make_ticket(group));
    const Ticket ticket = sure(Ticket::parse(made.bytes));
    const Forged forged = forge(ticket, input);
    const Bytes package = input.rarely_changed(forged.bytes);
    wire::proto::Request request;
    request.set_protocol(wire::protocol_version);
    request.mutable_import_package()->set_name(input.rarely() ? "another" : "");
    if (package.size() > wire::max_payload_size)
        return;
    const auto reply = reply_in(world.exchange(client, World::frame(request, package)));
    must(reply.has_value(), "a package without an answer");
    if (!reply->has_moved())
        return;
    must(package == forged.bytes, "a package that was changed is imported");
    const auto& facts = forged.header.facts;
    must(facts.target == ticket.manager && facts.group == group, "somebody else's package");
    const auto instance = sure(world.vault().get(facts.instance));
    must(instance.state == InstanceState::live && (instance.tpm == 1 || instance.tpm == 2),
         "an instance that cannot be");
    const auto again = reply_in(world.exchange(client, World::frame(request, package)));
    must(again && again->has_failure(), "a package is imported twice");
}

void parse(Input& input) {
    const Prepared& prepared = Prepared::get();
    const std::array files = {&prepared.ticket, &prepared.package, &prepared.receipt,
                              &prepared.recovery_key};
    const Bytes file = input.changed(*input.one_of(files));
    if (const auto ticket = Ticket::parse(file))
        must(ticket->bytes() == file, "a ticket is not what it was read from");
    (void)read_package(file);
    (void)parse_package(file);
    (void)Move::parse(file);
    (void)KeyBundle::parse(file);
    (void)parse_recovery_key(SecretBytes::copy_of(file));
    (void)recovery_public(
        std::string_view(reinterpret_cast<const char*>(file.data()), file.size()));
    SecretBytes key = SecretBytes::copy_of(prepared.recovery_key);
    const auto point = sure(recovery_public(key));
    EscrowedKey owned{Uuid(), Uuid(), SecretBytes(32)};
    const Bytes escrow = sure(make_escrow(point, owned));
    const Bytes other = input.changed(escrow);
    must(!open_escrow(key, other) || other == escrow, "a changed escrow opens");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    if (input.flag()) {
        parse(input);
        return 0;
    }
    World world;
    const Fd client = world.connect();
    for (int turn = 0; turn < 3 && !input.empty(); ++turn)
        import(world, client, input);
    const auto before = sure(world.vault().list()).size();
    must(world.reopen(), "the vault does not open again");
    must(sure(world.vault().list()).size() == before, "another number of instances");
    must(world.vault().status().quarantined == 0, "an import spoils an instance");
    return 0;
}
