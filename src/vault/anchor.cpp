#include "anchor.h"

#include <algorithm>
#include <vector>

#include "columns.h"
#include "format.h"

namespace vtpm::vault {
namespace {

Bytes body_of(const Anchor& anchor, const Uuid& manager) {
    return ByteWriter()
        .sized(as_bytes("xen-vtpm anchor"))
        .u32(text_version)
        .bytes(manager.bytes())
        .u64(anchor.epoch)
        .bytes(anchor.previous)
        .bytes(anchor.state)
        .u64(u64(anchor.bucket.tokens))
        .u64(u64(anchor.bucket.counted_at))
        .u64(anchor.chip_writes)
        .u64(anchor.recoveries)
        .u64(u64(anchor.committed))
        .bytes(anchor.salt)
        .take();
}

Anchor read_anchor(const Statement& statement, bool& sound) {
    Columns columns(statement);
    Anchor anchor;
    anchor.slot = columns.integer_up_to(1);
    anchor.epoch = u64(columns.integer());
    anchor.previous = columns.hash();
    anchor.state = columns.hash();
    anchor.bucket.tokens = columns.integer_up_to(TokenBucket::capacity);
    anchor.bucket.counted_at = columns.integer();
    anchor.chip_writes = u64(columns.integer());
    anchor.recoveries = u64(columns.integer());
    anchor.committed = columns.integer();
    anchor.salt = columns.hash();
    anchor.mac = columns.hash();
    sound = columns.sound();
    return anchor;
}

Result<std::vector<Anchor>> sound_anchors(Database& database, const Uuid& manager,
                                          const SecretBytes& anchor_key) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT slot, epoch, previous, state, tokens, counted_at,"
                              " chip_writes, recoveries, committed, salt, mac FROM anchors"
                              " ORDER BY slot LIMIT 2"));
    VTPM_CHECK(query.start());
    std::vector<Anchor> anchors;
    for (;;) {
        VTPM_TRY(const bool row, query.next());
        if (!row)
            return anchors;
        bool sound = false;
        const Anchor anchor = read_anchor(query, sound);
        if (sound && equal_constant_time(mac_of(anchor, manager, anchor_key), anchor.mac))
            anchors.push_back(anchor);
    }
}

}  // namespace

void TokenBucket::refill(std::int64_t now) {
    if (now < counted_at) {
        counted_at = now;
        return;
    }
    const std::int64_t earned = (now - counted_at) / seconds_a_token;
    tokens = std::min(capacity, tokens + std::min(earned, capacity));
    // A full bucket earns nothing: the next token takes its time from here.
    counted_at = tokens == capacity ? now : counted_at + earned * seconds_a_token;
}

Hash mac_of(const Anchor& anchor, const Uuid& manager, const SecretBytes& anchor_key) {
    return hmac_sha256(anchor_key.view(), body_of(anchor, manager));
}

Hash name_of(const Anchor& anchor, const Uuid& manager) {
    return sha256(ByteWriter().bytes(body_of(anchor, manager)).bytes(anchor.mac).take());
}

chip::CellValue value_after(const chip::CellValue& previous, const Hash& anchor_name) {
    return sha256(ByteWriter().bytes(previous).bytes(anchor_name).take());
}

Result<Anchor> next_anchor(const Anchor& current, const chip::CellValue& value, const Hash& state,
                           std::int64_t now, const Uuid& manager, const SecretBytes& anchor_key) {
    Anchor next;
    next.slot = 1 - current.slot;
    next.epoch = current.epoch + 1;
    next.previous = value;
    next.state = state;
    next.bucket = current.bucket;
    next.bucket.refill(now);
    next.bucket.take();
    next.chip_writes = current.chip_writes + 1;
    next.recoveries = current.recoveries;
    next.committed = now;
    VTPM_TRY(const SecretBytes salt, random_secret(next.salt.size()));
    std::copy_n(salt.view().begin(), next.salt.size(), next.salt.begin());
    next.mac = mac_of(next, manager, anchor_key);
    return next;
}

Result<std::optional<Anchor>> find_anchor(Database& database, const Uuid& manager,
                                          const SecretBytes& anchor_key,
                                          const chip::CellValue& cell) {
    VTPM_TRY(const auto anchors, sound_anchors(database, manager, anchor_key));
    for (const Anchor& anchor : anchors) {
        if (value_after(anchor.previous, name_of(anchor, manager)) == cell)
            return anchor;
    }
    return std::nullopt;
}

Result<Anchor> latest_anchor(Database& database, const Uuid& manager,
                             const SecretBytes& anchor_key) {
    VTPM_TRY(const auto anchors, sound_anchors(database, manager, anchor_key));
    Anchor latest;
    for (const Anchor& anchor : anchors) {
        if (anchor.epoch > latest.epoch)
            latest = anchor;
    }
    return latest;
}

Result<void> write(Database& database, const Anchor& anchor) {
    VTPM_TRY(Statement statement,
             database.prepare("INSERT OR REPLACE INTO anchors(slot, epoch, previous, state,"
                              " tokens, counted_at, chip_writes, recoveries, committed, salt, mac)"
                              " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    return statement.run(anchor.slot, static_cast<std::int64_t>(anchor.epoch),
                         ByteView(anchor.previous), ByteView(anchor.state), anchor.bucket.tokens,
                         anchor.bucket.counted_at, static_cast<std::int64_t>(anchor.chip_writes),
                         static_cast<std::int64_t>(anchor.recoveries), anchor.committed,
                         ByteView(anchor.salt), ByteView(anchor.mac));
}

}  // namespace vtpm::vault
