// Journal: who did what, to what, and when, for people.
//
// Each line's MAC covers the line before it; that of the last line is part of the vault's state
// (instance_table.h), so that lines can be neither changed nor taken out nor added, and an older
// journal is an older state. A damaged line is no reason to refuse service: it is shown as such.
// Private to the vault room; one thread. The database is lent.
#pragma once

#include <vector>

#include "database.h"
#include "key_schedule.h"
#include "vtpm/base/uuid.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

class Journal {
  public:
    // Beyond that the oldest ones go.
    static constexpr std::int64_t max_lines = 50'000;

    Journal(Database& database, const SecretBytes& anchor_key, const Uuid& manager)
        : database_(&database), key_(derive_journal_key(anchor_key)), manager_(manager) {}

    // A line as it goes to the disk.
    struct Line {
        std::int64_t id = 0;
        Event event;
        Hash previous{};
        Hash mac{};
    };

    // The first one of all.
    static Line first(const Event& event, const SecretBytes& anchor_key, const Uuid& manager);
    // The line that comes after the one with this MAC; event.number does not matter.
    Result<Line> next(const Event& event, const Hash& last);
    // Inside the caller's transaction.
    Result<void> write(const Line& line);

    // After line number `after`; `last` is the MAC of the last line.
    Result<std::vector<Event>> read(std::uint64_t after, std::size_t limit, const Hash& last);

  private:
    static Line line_of(std::int64_t id, const Event& event, const Hash& previous,
                        const SecretBytes& key, const Uuid& manager);
    Result<std::int64_t> last_number();

    Database* database_;
    SecretBytes key_;
    Uuid manager_;
};

}  // namespace vtpm::vault
