#include "journal.h"

#include "columns.h"

namespace vtpm::vault {
namespace {

// A line is for people; what comes from outside is bounded before it gets here, and once more.
constexpr std::size_t max_text = 512;

// We never get so far; a line of a damaged database may have any number.
constexpr std::int64_t max_number = std::int64_t{1} << 40U;

std::string bounded(std::string text) {
    if (text.size() > max_text)
        text.resize(max_text);
    return text;
}

Hash mac_of(const Journal::Line& line, const SecretBytes& key, const Uuid& manager) {
    const auto& event = line.event;
    const Bytes text = ByteWriter()
                           .sized(as_bytes("xen-vtpm journal line"))
                           .bytes(manager.bytes())
                           .u64(static_cast<std::uint64_t>(line.id))
                           .u64(static_cast<std::uint64_t>(event.at))
                           .sized(as_bytes(event.actor))
                           .sized(as_bytes(event.action))
                           .sized(as_bytes(event.subject))
                           .bytes(line.previous)
                           .take();
    return hmac_sha256(key.view(), text);
}

}  // namespace

Result<std::int64_t> Journal::last_number() {
    VTPM_TRY(Statement query, database_->prepare("SELECT max(id) FROM journal WHERE id < ?"));
    VTPM_CHECK(query.start(max_number));
    VTPM_TRY(const bool row, query.next());
    return std::max<std::int64_t>(0, row ? query.integer(0).value_or(0) : 0);
}

Journal::Line Journal::line_of(std::int64_t id, const Event& event, const Hash& previous,
                               const SecretBytes& key, const Uuid& manager) {
    Line line;
    line.id = id;
    line.event = event;
    line.event.actor = bounded(event.actor);
    line.event.action = bounded(event.action);
    line.event.subject = bounded(event.subject);
    line.previous = previous;
    line.mac = mac_of(line, key, manager);
    return line;
}

Journal::Line Journal::first(const Event& event, const SecretBytes& anchor_key,
                             const Uuid& manager) {
    return line_of(1, event, {}, derive_journal_key(anchor_key), manager);
}

Result<Journal::Line> Journal::next(const Event& event, const Hash& last) {
    VTPM_TRY(const std::int64_t number, last_number());
    return line_of(number + 1, event, last, key_, manager_);
}

Result<void> Journal::write(const Line& line) {
    VTPM_TRY(Statement put,
             database_->prepare("INSERT INTO journal(id, at, actor, action, subject, previous, mac)"
                                " VALUES(?, ?, ?, ?, ?, ?, ?)"));
    const auto& event = line.event;
    VTPM_CHECK(put.run(line.id, event.at, std::string_view(event.actor),
                       std::string_view(event.action), std::string_view(event.subject),
                       ByteView(line.previous), ByteView(line.mac)));
    VTPM_TRY(Statement drop, database_->prepare("DELETE FROM journal WHERE id <= ?"));
    return drop.run(line.id - max_lines);
}

Result<std::vector<Event>> Journal::read(std::uint64_t after, std::size_t limit, const Hash& last) {
    VTPM_TRY(const std::int64_t end, last_number());
    // One line before the first, to compare with; the oldest that is kept has none.
    VTPM_TRY(Statement query,
             database_->prepare("SELECT id, at, actor, action, subject, previous, mac FROM journal"
                                " WHERE id >= ? ORDER BY id LIMIT ?"));
    VTPM_CHECK(query.start(static_cast<std::int64_t>(after),
                           static_cast<std::int64_t>(limit) + (after > 0 ? 1 : 0)));
    std::vector<Event> events;
    std::int64_t expected_id =
        std::max<std::int64_t>({1, static_cast<std::int64_t>(after), end - max_lines + 1});
    std::optional<Hash> previous;
    if (expected_id == 1)
        previous = Hash{};
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return events;
        Columns columns(query);
        Line line;
        line.id = columns.integer();
        line.event.at = columns.integer();
        line.event.actor = columns.text();
        line.event.action = columns.text();
        line.event.subject = columns.text();
        line.previous = columns.hash();
        line.mac = columns.hash();
        line.event.number = static_cast<std::uint64_t>(line.id);
        line.event.sound = columns.sound() &&
                           equal_constant_time(mac_of(line, key_, manager_), line.mac) &&
                           line.id == expected_id &&
                           (!previous || equal_constant_time(*previous, line.previous)) &&
                           (line.id != end || equal_constant_time(line.mac, last));
        for (auto* const text : {&line.event.actor, &line.event.action, &line.event.subject})
            *text = bounded(std::move(*text));
        previous = line.mac;
        expected_id = std::min(line.id, max_number) + 1;
        if (line.event.number > after)
            events.push_back(std::move(line.event));
    }
}

}  // namespace vtpm::vault
