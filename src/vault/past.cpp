#include "past.h"

#include <algorithm>
#include <set>

#include "instance_row.h"

namespace vtpm::vault {
namespace {

constexpr std::uint8_t shape = 1;

Result<KeptSnapshot> read_snapshot(ByteReader& reader) {
    KeptSnapshot snapshot;
    VTPM_TRY(snapshot.place, reader.u8());
    VTPM_TRY(const auto name_size, reader.u32());
    VTPM_TRY(const auto name, reader.bytes(name_size));
    snapshot.name.assign(name.begin(), name.end());
    VTPM_TRY(const auto made, reader.u64());
    snapshot.made = static_cast<std::int64_t>(made);
    VTPM_TRY(snapshot.sequence, reader.u64());
    VTPM_TRY(snapshot.bytes, reader.u64());
    VTPM_TRY(const auto digest, reader.bytes(snapshot.digest.size()));
    std::copy(digest.begin(), digest.end(), snapshot.digest.begin());
    return snapshot;
}

Result<void> read(ByteView past, InstanceRow& row) {
    ByteReader reader(past);
    VTPM_TRY(const auto found, reader.u8());
    if (found != shape)
        return fail(Errc::corrupt, "an unknown shape");
    VTPM_TRY(row.facts.reverts, reader.u64());
    VTPM_TRY(row.facts.clones, reader.u64());
    VTPM_TRY(const auto origin, reader.bytes(Uuid::size));
    VTPM_TRY(row.facts.origin, Uuid::from_bytes(origin));
    VTPM_TRY(const auto count, reader.u8());
    if (count > Vault::max_snapshots)
        return fail(Errc::corrupt, "too many snapshots");
    std::vector<KeptSnapshot> snapshots(count);
    for (auto& snapshot : snapshots) {
        VTPM_TRY(snapshot, read_snapshot(reader));
    }
    if (reader.left() != 0)
        return fail(Errc::corrupt, "bytes left over");
    keep_snapshots(row, std::move(snapshots));
    return {};
}

}  // namespace

void keep_snapshots(InstanceRow& row, std::vector<KeptSnapshot> snapshots) {
    row.snapshots = std::move(snapshots);
    row.facts.snapshots = row.snapshots.size();
    row.facts.snapshot_bytes = 0;
    for (const auto& snapshot : row.snapshots)
        row.facts.snapshot_bytes += snapshot.bytes;
}

Bytes past_of(const InstanceRow& row) {
    const auto& facts = row.facts;
    if (facts.reverts == 0 && facts.clones == 0 && facts.origin.is_nil() && row.snapshots.empty())
        return {};
    ByteWriter writer;
    writer.u8(shape)
        .u64(facts.reverts)
        .u64(facts.clones)
        .bytes(facts.origin.bytes())
        .u8(static_cast<std::uint8_t>(row.snapshots.size()));
    for (const auto& snapshot : row.snapshots) {
        writer.u8(snapshot.place)
            .sized(as_bytes(snapshot.name))
            .u64(static_cast<std::uint64_t>(snapshot.made))
            .u64(snapshot.sequence)
            .u64(snapshot.bytes)
            .bytes(snapshot.digest);
    }
    return writer.take();
}

bool take_past(ByteView past, InstanceRow& row) {
    if (past.empty())
        return true;
    if (!read(past, row) || past_of(row) != Bytes(past.begin(), past.end()))
        return false;
    std::set<std::uint8_t> places;
    return std::all_of(row.snapshots.begin(), row.snapshots.end(), [&](const auto& snapshot) {
        return valid_name(snapshot.name) && snapshot.place < Vault::max_snapshots &&
               snapshot.bytes <= Vault::max_blob_size && places.insert(snapshot.place).second;
    });
}

}  // namespace vtpm::vault
