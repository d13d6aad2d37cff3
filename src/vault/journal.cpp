#include "journal.h"

#include <algorithm>

#include "columns.h"

namespace vtpm::vault {
namespace {

// A line is for people; what comes from outside is bounded before it gets here, and once more.
constexpr std::size_t max_text = 512;

// We never get so far; a line of a damaged database may have any number.
constexpr std::int64_t max_number = std::int64_t{1} << 40U;

// `kin` is how many lines of its kind there were, negative for guests'; NULL before format 7.
const std::string all_columns =
    "id, at, actor, action, subject, previous, mac, kin, other FROM journal";
const std::string of_operators = "(kin IS NULL OR kin >= 0)";
const std::string of_guests = "kin < 0";

constexpr std::size_t index_of(Journal::Kind kind) {
    return kind == Journal::Kind::operators ? 0 : 1;
}

constexpr Journal::Kind other_than(Journal::Kind kind) {
    return kind == Journal::Kind::operators ? Journal::Kind::guests : Journal::Kind::operators;
}

Event within_bounds(Event event) {
    for (auto* const text : {&event.actor, &event.action, &event.subject}) {
        if (text->size() > max_text)
            text->resize(max_text);
    }
    return event;
}

std::int64_t kin_of(const Journal::Line& line) {
    return line.kind == Journal::Kind::guests ? -line.count : line.count;
}

Hash mac_of(const Journal::Line& line, const SecretBytes& key, const Uuid& manager) {
    const auto& event = line.event;
    ByteWriter text;
    text.sized(as_bytes(line.other ? "xen-vtpm journal line 2" : "xen-vtpm journal line"))
        .bytes(manager.bytes())
        .u64(u64(line.id))
        .u64(u64(event.at))
        .sized(as_bytes(event.actor))
        .sized(as_bytes(event.action))
        .sized(as_bytes(event.subject))
        .bytes(line.previous);
    if (line.other)
        text.u64(u64(kin_of(line))).u64(u64(line.other->count)).bytes(line.other->mac);
    return hmac_sha256(key.view(), text.written());
}

Bytes packed(const Journal::Head& head) {
    return ByteWriter().u64(u64(head.count)).bytes(head.mac).take();
}

Journal::Head unpacked(Columns& columns) {
    Journal::Head head;
    const Bytes bytes = columns.bytes();
    ByteReader reader(bytes);
    const auto count = reader.u64();
    const auto mac = reader.bytes(head.mac.size());
    if (!count || !mac || reader.left() != 0 || *count > u64(max_number)) {
        columns.spoil();
        return head;
    }
    head.count = static_cast<std::int64_t>(*count);
    std::copy(mac->begin(), mac->end(), head.mac.begin());
    return head;
}

// With event.sound saying whether the columns are what they should be.
Journal::Line line_in(const Statement& row) {
    Columns columns(row);
    Journal::Line line;
    line.id = columns.integer();
    line.event.at = columns.integer();
    line.event.actor = columns.text();
    line.event.action = columns.text();
    line.event.subject = columns.text();
    line.previous = columns.hash();
    line.mac = columns.hash();
    if (const auto kin = columns.optional_integer()) {
        const std::int64_t bound = std::clamp(*kin, -max_number, max_number);
        line.kind = bound < 0 ? Journal::Kind::guests : Journal::Kind::operators;
        line.count = bound < 0 ? -bound : bound;
        line.other = unpacked(columns);
    } else {
        line.count = std::min(line.id, max_number);  // they were numbered without gaps
    }
    line.event.number = static_cast<std::uint64_t>(line.id);
    line.event.sound = columns.sound();
    return line;
}

// What the last line is the end of, if it is the one with this MAC.
std::array<std::optional<Journal::Head>, 2> ends_of(const std::optional<Journal::Line>& tail,
                                                    const Hash& last) {
    std::array<std::optional<Journal::Head>, 2> ends;
    ends[index_of(tail ? tail->kind : Journal::Kind::operators)] =
        Journal::Head{tail ? tail->count : 0, last};
    if (tail)
        ends[index_of(other_than(tail->kind))] = tail->other;
    return ends;
}

}  // namespace

Result<std::optional<Journal::Line>> Journal::newest(const std::string& which, std::int64_t up_to) {
    VTPM_TRY(Statement query, database_->prepare("SELECT " + all_columns + " WHERE id <= ? AND " +
                                                 which + " ORDER BY id DESC LIMIT 1"));
    VTPM_CHECK(query.start(up_to));
    VTPM_TRY(const bool row, query.next());
    if (!row)
        return std::nullopt;
    return line_in(query);
}

Journal::Line Journal::first(const Event& event, const SecretBytes& anchor_key,
                             const Uuid& manager) {
    Line line;
    line.id = 1;
    line.event = within_bounds(event);
    line.count = 1;
    line.other = Head{};
    line.mac = mac_of(line, derive_journal_key(anchor_key), manager);
    return line;
}

// What the last line says of the numbers and of the other kind is taken from it even if somebody
// has changed it: its MAC does not verify then, and that of the true one is what we build on.
Result<Journal::Line> Journal::next(const Event& event, const Hash& last, Kind kind) {
    VTPM_TRY(const auto tail, newest("id > 0", max_number - 1));
    const Heads before = ends_of(tail, last);
    const Head own = before[index_of(kind)].value_or(Head{});
    Line line;
    line.id = tail ? tail->id + 1 : 1;
    line.event = within_bounds(event);
    line.kind = kind;
    line.count = std::min(own.count, max_number - 1) + 1;
    line.previous = own.mac;
    line.other = before[index_of(other_than(kind))].value_or(Head{});
    line.mac = mac_of(line, key_, manager_);
    return line;
}

Result<void> Journal::write(const Line& line) {
    VTPM_TRY(Statement put,
             database_->prepare("INSERT INTO journal(id, at, actor, action, subject, previous, mac,"
                                " kin, other) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    const auto& event = line.event;
    const Bytes other = packed(line.other.value_or(Head{}));
    VTPM_CHECK(put.run(line.id, event.at, std::string_view(event.actor),
                       std::string_view(event.action), std::string_view(event.subject),
                       ByteView(line.previous), ByteView(line.mac), kin_of(line), ByteView(other)));
    const std::int64_t beyond = line.count - room_.of(line.kind);
    if (beyond <= 0 || line.count % some != 0)
        return {};
    const bool guests = line.kind == Kind::guests;
    VTPM_TRY(Statement drop,
             database_->prepare(guests ? "DELETE FROM journal WHERE kin BETWEEN -? AND -1"
                                       : "DELETE FROM journal WHERE coalesce(kin, id) BETWEEN 1 "
                                         "AND ?"));
    return drop.run(beyond);
}

bool Journal::verifies(const Line& line) const {
    return line.event.sound && equal_constant_time(mac_of(line, key_, manager_), line.mac);
}

std::int64_t Journal::oldest_kept(Kind kind, const Heads& ends) const {
    const std::int64_t count = ends[index_of(kind)].value_or(Head{}).count;
    return std::max<std::int64_t>(1, count - room_.of(kind) + 1);
}

// Whether it is the one that comes after these. Before the oldest line that is there of a kind
// there may have been others, but none of those that we keep.
bool Journal::follows(const Line& line, const Heads& before, const Heads& ends) const {
    const auto& own = before[index_of(line.kind)];
    const bool next_of_its_kind = own ? line.count == own->count + 1 && line.previous == own->mac
                                      : line.count <= oldest_kept(line.kind, ends) &&
                                            (line.count > 1 || line.previous == Hash{});
    if (!line.other)
        return next_of_its_kind;
    const Kind kind = other_than(line.kind);
    const auto& other = before[index_of(kind)];
    const bool none_missing = other ? *line.other == *other
                              : line.other->count == 0
                                  ? *line.other == Head{}
                                  : line.other->count < oldest_kept(kind, ends);
    return next_of_its_kind && none_missing;
}

Result<std::vector<Event>> Journal::read(std::uint64_t after, std::size_t limit, const Hash& last) {
    std::vector<Event> events;
    VTPM_TRY(const auto tail, newest("id > 0", max_number - 1));
    const Heads ends = ends_of(tail, last);
    const auto from = static_cast<std::int64_t>(std::min(after, u64(max_number)));
    Heads before;
    for (const auto& [kind, which] :
         {std::pair(Kind::operators, of_operators), std::pair(Kind::guests, of_guests)}) {
        VTPM_TRY(const auto line, newest("id > 0 AND " + which, from));
        if (line)
            before[index_of(kind)] = Head{line->count, line->mac};
    }
    VTPM_TRY(Statement query,
             database_->prepare("SELECT " + all_columns + " WHERE id > ? ORDER BY id LIMIT ?"));
    VTPM_CHECK(query.start(from, static_cast<std::int64_t>(limit)));
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return events;
        Line line = line_in(query);
        line.event.sound = verifies(line) && follows(line, before, ends) && tail &&
                           line.id <= tail->id &&
                           (line.id < tail->id || equal_constant_time(line.mac, last));
        line.event = within_bounds(std::move(line.event));
        before[index_of(line.kind)] = Head{line.count, line.mac};
        if (line.event.number > after)
            events.push_back(std::move(line.event));
    }
}

}  // namespace vtpm::vault
