#include "instance_row.h"

#include <limits>

#include "format.h"
#include "transfer.h"

namespace vtpm::vault {
namespace {

constexpr std::int64_t max_integer = std::numeric_limits<std::int64_t>::max();

// Fields that hold together without any key; a row that was made by our own code always does.
bool makes_sense(const InstanceRow& row) {
    const auto& facts = row.facts;
    if (!valid_name(facts.name) || facts.tpm == 0 || facts.policy.size() > Vault::max_policy_size)
        return false;
    if (facts.state == InstanceState::exported && row.move.empty())
        return false;
    const bool any_record =
        std::any_of(row.digests.begin(), row.digests.end(), [](const auto& d) { return !!d; });
    if (!row.snapshots.empty() && row.wrapped_key.empty())
        return false;
    switch (facts.state) {
        case InstanceState::live:
        case InstanceState::exported:
            return !row.wrapped_key.empty() && (facts.sequence == 0 ? !any_record && !row.last_store
                                                                    : row.digests[0].has_value());
        case InstanceState::deleted:
            return row.wrapped_key.empty() && !any_record;
        case InstanceState::quarantined:
            return false;  // never written by this version
    }
    return false;
}

}  // namespace

bool valid_name(std::string_view name) {
    constexpr std::string_view letters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return !name.empty() && name.size() <= Vault::max_name_size &&
           name.find_first_not_of(letters) == std::string_view::npos && name.front() != '-' &&
           name.front() != '.' && !Uuid::parse(name);
}

Hash mac_of(const InstanceRow& row, const Uuid& manager, const SecretBytes& meta_key) {
    const auto& facts = row.facts;
    ByteWriter writer;
    writer.sized(as_bytes("xen-vtpm instance row"))
        .u32(text_version)
        .bytes(manager.bytes())
        .u64(static_cast<std::uint64_t>(row.id))
        .u64(static_cast<std::uint64_t>(row.group_id))
        .bytes(facts.uuid.bytes())
        .sized(as_bytes(facts.name))
        .u8(facts.tpm)
        .u8(facts.sync ? 1 : 0)
        .bytes(facts.group.bytes())
        .u8(static_cast<std::uint8_t>(facts.state))
        .u32(facts.generation)
        .u64(facts.sequence)
        .u64(static_cast<std::uint64_t>(facts.created))
        .u64(static_cast<std::uint64_t>(facts.committed))
        .sized(row.wrapped_key);
    for (const auto size : row.sizes)
        writer.u64(size);
    const auto optional_hash = [&](const std::optional<Hash>& hash) {
        writer.sized(hash ? ByteView(*hash) : ByteView());
    };
    optional_hash(row.last_store);
    for (const auto& digest : row.digests)
        optional_hash(digest);
    writer.sized(row.move).sized(facts.policy);
    // What came after format 5 is there with its name, or not at all: without any of it the text is
    // that of format 5, and no field can be taken for another one.
    if (const Bytes past = past_of(row); !past.empty())
        writer.sized(as_bytes("past")).sized(past);
    return hmac_sha256(meta_key.view(), writer.written());
}

InstanceRow read_row(const Statement& statement, const Uuid& manager, const SecretBytes& meta_key) {
    Columns columns(statement);
    InstanceRow row;
    auto& facts = row.facts;
    row.id = columns.integer();
    row.group_id = columns.integer();
    facts.uuid = columns.uuid();
    facts.name = columns.text();
    facts.tpm = static_cast<std::uint8_t>(columns.integer_up_to(0xff));
    facts.sync = columns.integer_up_to(1) != 0;
    facts.group = columns.uuid();
    facts.state = static_cast<InstanceState>(columns.integer_up_to(0xff));
    facts.generation = static_cast<std::uint32_t>(columns.integer_up_to(0xffffffff));
    facts.sequence = static_cast<std::uint64_t>(columns.integer_up_to(max_integer));
    facts.created = columns.integer();
    facts.committed = columns.integer();
    for (auto& size : row.sizes) {
        size = static_cast<std::uint64_t>(columns.integer_up_to(Vault::max_blob_size));
        facts.bytes += size;
    }
    row.wrapped_key = columns.optional_bytes();
    row.last_store = columns.optional_hash();
    for (auto& digest : row.digests)
        digest = columns.optional_hash();
    row.move = columns.optional_bytes();
    facts.policy = columns.optional_bytes();
    row.mac = columns.hash();
    const bool past_is_ours = take_past(columns.optional_bytes(), row);
    row.mac_as_read = mac_of(row, manager, meta_key);
    row.sound = columns.sound() && past_is_ours && equal_constant_time(row.mac_as_read, row.mac) &&
                makes_sense(row);
    if (const auto move = Move::parse(row.move); row.sound && move) {
        facts.peer = move->peer;
        facts.moved = move->at;
    }
    if (!row.sound) {
        row.what_is_wrong = "its row in vault.db does not verify";
        facts.state = InstanceState::quarantined;
        if (!valid_name(facts.name))
            facts.name = "?";  // it goes to terminals
    }
    return row;
}

}  // namespace vtpm::vault
