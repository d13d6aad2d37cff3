#include "transfer.h"

#include <algorithm>

#include "columns.h"
#include "instance_row.h"
#include "record_cipher.h"

namespace vtpm::vault {
namespace {

constexpr std::string_view ticket_magic = "XVTPMTKT";
constexpr std::string_view package_magic = "XVTPMPKG";
constexpr std::string_view receipt_magic = "XVTPMRCP";
constexpr std::uint32_t version = 1;
constexpr std::uint32_t package_version = 2;  // 1 had no policy
constexpr std::size_t wrapped_size = key_size + 8;
constexpr std::uint8_t has_sync = 1;

std::uint32_t version_of(std::string_view magic) {
    return magic == package_magic ? package_version : version;
}

ByteWriter begin(std::string_view magic) {
    ByteWriter writer;
    writer.bytes(as_bytes(magic)).u32(version_of(magic));
    return writer;
}

Result<void> check_head(ByteReader& reader, std::string_view magic, std::string_view what) {
    VTPM_TRY(const ByteView head, reader.bytes(magic.size()));
    if (!std::equal(head.begin(), head.end(), magic.begin()))
        return fail(Errc::malformed, "this is no " + std::string(what));
    VTPM_TRY(const std::uint32_t found, reader.u32());
    if (found != version_of(magic))
        return fail(Errc::unsupported,
                    "a " + std::string(what) + " of version " + std::to_string(found));
    return {};
}

Result<Uuid> uuid_of(ByteReader& reader) {
    VTPM_TRY(const ByteView bytes, reader.bytes(Uuid::size));
    return Uuid::from_bytes(bytes);
}

Result<Hash> hash_of(ByteReader& reader) {
    VTPM_TRY(const ByteView bytes, reader.bytes(sizeof(Hash)));
    Hash hash{};
    std::copy(bytes.begin(), bytes.end(), hash.begin());
    return hash;
}

Result<std::int64_t> time_of(ByteReader& reader) {
    VTPM_TRY(const std::uint64_t value, reader.u64());
    return static_cast<std::int64_t>(value & 0x7fff'ffff'ffff'ffffU);
}

Result<PackageHeader> parse_header(ByteReader& reader) {
    PackageHeader header;
    PackageFacts& facts = header.facts;
    VTPM_TRY(facts.source, uuid_of(reader));
    VTPM_TRY(facts.target, uuid_of(reader));
    VTPM_TRY(facts.group, uuid_of(reader));
    VTPM_TRY(facts.instance, uuid_of(reader));
    VTPM_TRY(const std::uint32_t name_size, reader.u32());
    VTPM_TRY(const ByteView name, reader.bytes(name_size));
    facts.name.assign(name.begin(), name.end());
    VTPM_TRY(facts.tpm, reader.u8());
    VTPM_TRY(const std::uint8_t flags, reader.u8());
    header.sync = (flags & has_sync) != 0;
    VTPM_TRY(const std::uint32_t policy_size, reader.u32());
    VTPM_TRY(const ByteView policy, reader.bytes(policy_size));
    facts.policy.assign(policy.begin(), policy.end());
    VTPM_TRY(facts.sequence, reader.u64());
    VTPM_TRY(header.created, time_of(reader));
    VTPM_TRY(header.exported, time_of(reader));
    VTPM_TRY(header.nonce, hash_of(reader));
    VTPM_TRY(const ByteView point, reader.bytes(point_size));
    header.point.assign(point.begin(), point.end());
    VTPM_TRY(const std::uint8_t count, reader.u8());
    for (std::uint8_t i = 0; i < count; ++i) {
        VTPM_TRY(const std::uint8_t kind, reader.u8());
        VTPM_TRY(const std::uint32_t size, reader.u32());
        header.blobs.emplace_back(static_cast<BlobKind>(kind), size);
    }
    const bool stored = facts.sequence != 0;
    if (!valid_name(facts.name) || flags > has_sync || header.blobs.empty() == stored ||
        policy_size > Vault::max_policy_size)
        return fail(Errc::malformed, "the package says what cannot be");
    return header;
}

// What the wrapped key is bound to, beside the two points.
Bytes about(const Hash& header) {
    return ByteWriter().bytes(as_bytes("xen-vtpm package 1")).bytes(header).take();
}

SecretBytes record_key(const SecretBytes& package_key, const Hash& header) {
    return hkdf_sha256(package_key.view(), header, as_bytes("xen-vtpm K_package 1"), key_size);
}

RecordLabel label_of(const PackageHeader& header, const Hash& hash, BlobKind kind) {
    const auto& facts = header.facts;
    return {facts.source, facts.group, facts.instance, kind, 1, facts.sequence, hash};
}

}  // namespace

std::string fingerprint(ByteView bytes) {
    return to_hex(sha256(bytes)).substr(0, 16);
}

Bytes Ticket::bytes() const {
    ByteWriter writer = begin(ticket_magic);
    writer.bytes(manager.bytes()).bytes(group.bytes()).bytes(point).bytes(nonce).u64(u64(made));
    const Hash sum = sha256(writer.written());
    return writer.bytes(sum).take();
}

Result<Ticket> Ticket::parse(ByteView bytes) {
    ByteReader reader(bytes);
    const auto read = [&]() -> Result<Ticket> {
        VTPM_CHECK(check_head(reader, ticket_magic, "ticket"));
        Ticket ticket;
        VTPM_TRY(ticket.manager, uuid_of(reader));
        VTPM_TRY(ticket.group, uuid_of(reader));
        VTPM_TRY(const ByteView point, reader.bytes(point_size));
        ticket.point.assign(point.begin(), point.end());
        VTPM_TRY(ticket.nonce, hash_of(reader));
        VTPM_TRY(ticket.made, time_of(reader));
        return ticket;
    };
    auto ticket = read();
    if (!ticket && ticket.error().code == Errc::unsupported)
        return ticket;
    const auto whole = bytes.first(bytes.size() - reader.left());
    const auto sum = hash_of(reader);
    if (!ticket || !sum || *sum != sha256(whole) || reader.left() != 0 ||
        !check_point(ticket->point))
        return fail(Errc::malformed, "this is no ticket, or it was damaged on its way");
    return ticket;
}

Result<P256Key> import_key(const SecretBytes& group_key) {
    // What is not 1 to n - 1, one time in 2^32, is drawn again.
    for (std::uint8_t round = 0; round < 0xff; ++round) {
        const Bytes purpose = ByteWriter().bytes(as_bytes("xen-vtpm K_import 1")).u8(round).take();
        const SecretBytes scalar = hkdf_sha256(group_key.view(), {}, purpose, scalar_size);
        auto key = P256Key::from_scalar(scalar);
        if (key || key.error().code != Errc::invalid_argument)
            return key;
    }
    return fail(Errc::unavailable, "no import key comes of this group's key");
}

Bytes PackageHeader::bytes() const {
    ByteWriter writer = begin(package_magic);
    writer.bytes(facts.source.bytes())
        .bytes(facts.target.bytes())
        .bytes(facts.group.bytes())
        .bytes(facts.instance.bytes())
        .sized(as_bytes(facts.name))
        .u8(facts.tpm)
        .u8(sync ? has_sync : 0)
        .sized(facts.policy)
        .u64(facts.sequence)
        .u64(u64(created))
        .u64(u64(exported))
        .bytes(nonce)
        .bytes(point)
        .u8(static_cast<std::uint8_t>(blobs.size()));
    for (const auto& [kind, size] : blobs)
        writer.u8(static_cast<std::uint8_t>(kind)).u32(static_cast<std::uint32_t>(size));
    return writer.take();
}

Result<ParsedPackage> parse_package(ByteView package) {
    if (package.size() > max_package_size)
        return fail(Errc::too_large, "this is too large to be a package");
    ByteReader reader(package);
    const auto read = [&]() -> Result<ParsedPackage> {
        ParsedPackage parsed;
        VTPM_CHECK(check_head(reader, package_magic, "package"));
        VTPM_TRY(parsed.header, parse_header(reader));
        parsed.hash = sha256(package.first(package.size() - reader.left()));
        VTPM_TRY(parsed.ephemeral, reader.bytes(point_size));
        VTPM_TRY(parsed.wrapped, reader.bytes(wrapped_size));
        for (const auto& [kind, size] : parsed.header.blobs) {
            VTPM_TRY(const ByteView record, reader.bytes(size + record_overhead));
            parsed.records.push_back(record);
        }
        return parsed;
    };
    auto parsed = read();
    if (!parsed && parsed.error().code == Errc::unsupported)
        return parsed;
    if (!parsed || reader.left() != 0)
        return fail(Errc::malformed, "this is no package, or it was cut or damaged on its way");
    return parsed;
}

Result<PackageFacts> read_package(ByteView package) {
    VTPM_TRY(const ParsedPackage parsed, parse_package(package));
    return parsed.header.facts;
}

Result<Bytes> seal_package(const PackageHeader& header, const SecretBytes& package_key,
                           const LoadedState& state) {
    const Bytes head = header.bytes();
    const Hash hash = sha256(head);
    VTPM_TRY(const WrappedFor wrapped, wrap_for(header.point, about(hash), package_key));
    ByteWriter writer;
    writer.bytes(head).bytes(wrapped.ephemeral).bytes(wrapped.wrapped);
    const SecretBytes key = record_key(package_key, hash);
    for (const auto& [kind, content] : state.blobs) {
        VTPM_TRY(const Bytes record, seal_record(key, label_of(header, hash, kind), content));
        writer.bytes(record);
    }
    return writer.take();
}

Result<SecretBytes> open_package_key(const ParsedPackage& package, const P256Key& own) {
    auto key = unwrap_with(own, package.ephemeral, about(package.hash), package.wrapped);
    if (!key)
        return fail(Errc::corrupt, "the package was changed on its way, or is not for this ticket");
    return key;
}

Result<std::vector<BlobChange>> open_package_state(const ParsedPackage& package,
                                                   const SecretBytes& package_key) {
    const SecretBytes key = record_key(package_key, package.hash);
    std::vector<BlobChange> state;
    for (std::size_t i = 0; i < package.records.size(); ++i) {
        const BlobKind kind = package.header.blobs[i].first;
        auto content =
            open_record(key, label_of(package.header, package.hash, kind), package.records[i]);
        if (!content)
            return fail(Errc::corrupt, "the package was changed on its way");
        state.push_back({kind, std::move(*content)});
    }
    return state;
}

Bytes make_receipt(const PackageFacts& facts, const Hash& header, const SecretBytes& package_key) {
    const SecretBytes key = derive_key(package_key, "xen-vtpm K_receipt 1");
    ByteWriter writer = begin(receipt_magic);
    writer.bytes(facts.target.bytes()).bytes(facts.instance.bytes()).bytes(header);
    const Hash mac = hmac_sha256(key.view(), writer.written());
    return writer.bytes(mac).take();
}

Bytes Move::bytes() const {
    return ByteWriter()
        .bytes(peer.bytes())
        .u64(u64(at))
        .bytes(header)
        .bytes(ticket)
        .bytes(wrapped_key)
        .take();
}

Result<Move> Move::parse(ByteView bytes) {
    ByteReader reader(bytes);
    Move move;
    VTPM_TRY(move.peer, uuid_of(reader));
    VTPM_TRY(move.at, time_of(reader));
    VTPM_TRY(move.header, hash_of(reader));
    VTPM_TRY(move.ticket, hash_of(reader));
    move.wrapped_key.assign(reader.rest().begin(), reader.rest().end());
    return move;
}

}  // namespace vtpm::vault
