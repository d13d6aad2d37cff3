// Journal: who did what, to what, and when, for people.
//
// There are lines of two kinds, operators' and guests', each with room of its own: a guest that is
// started again and again pushes out lines about guests, and no operator's. Each line's MAC covers
// the newest lines of both kinds before it, and how many there were; that of the last line is part
// of the vault's state (instance_table.h). So lines can be neither changed nor taken out nor added,
// but for the oldest of a kind when there are as many as are kept; and an older journal is an older
// state. Lines of before format 7 cover the one before them, whoever's; they count as operators'.
// A damaged line is no reason to refuse service: it is shown as such.
// Private to the vault room; one thread. The database is lent.
#pragma once

#include <array>
#include <vector>

#include "database.h"
#include "key_schedule.h"
#include "vtpm/base/uuid.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

class Journal {
  public:
    enum class Kind : std::uint8_t { operators, guests };

    // How many lines are kept of a kind; beyond that the oldest ones go, some at a time.
    struct Room {
        std::int64_t operators = 50'000;
        std::int64_t guests = 10'000;
        std::int64_t of(Kind kind) const { return kind == Kind::operators ? operators : guests; }
    };
    static constexpr std::int64_t some = 64;

    Journal(Database& database, const SecretBytes& anchor_key, const Uuid& manager)
        : Journal(database, anchor_key, manager, Room()) {}
    Journal(Database& database, const SecretBytes& anchor_key, const Uuid& manager, Room room)
        : database_(&database),
          key_(derive_journal_key(anchor_key)),
          manager_(manager),
          room_(room) {}

    // The newest line of a kind: the how many-th it is, and its MAC; zeros: there is none.
    struct Head {
        std::int64_t count = 0;
        Hash mac{};
        bool operator==(const Head&) const = default;
    };

    // A line as it goes to the disk.
    struct Line {
        std::int64_t id = 0;
        Event event;
        Kind kind = Kind::operators;
        std::int64_t count = 0;     // of this kind, with this one
        Hash previous{};            // the MAC of the one of this kind before it
        std::optional<Head> other;  // of the other kind; none in formats before 7
        Hash mac{};
    };

    // The first one of all.
    static Line first(const Event& event, const SecretBytes& anchor_key, const Uuid& manager);
    // The line that comes after the one with this MAC; event.number does not matter.
    Result<Line> next(const Event& event, const Hash& last, Kind kind = Kind::operators);
    // Inside the caller's transaction.
    Result<void> write(const Line& line);

    // After line number `after`; `last` is the MAC of the last line.
    Result<std::vector<Event>> read(std::uint64_t after, std::size_t limit, const Hash& last);

  private:
    // By kind. What is not known yet is none.
    using Heads = std::array<std::optional<Head>, 2>;

    Result<std::optional<Line>> newest(const std::string& which, std::int64_t up_to);
    bool verifies(const Line& line) const;
    bool follows(const Line& line, const Heads& before, const Heads& ends) const;
    std::int64_t oldest_kept(Kind kind, const Heads& ends) const;

    Database* database_;
    SecretBytes key_;
    Uuid manager_;
    Room room_;
};

}  // namespace vtpm::vault
