// InstanceTable: the rows of all instances, verified once and then held in memory.
//
// The memory is what is believed: a row on the disk is read when the vault opens and written when
// it changes, so nobody can change it underneath. Memory follows the disk only after a commit.
//
// The set as a whole has a state, too: HMAC(K_total, what surrounds the table | count | XOR over
// rows of HMAC(K_sum, row MAC)). A row that is missing, or is an older one with its old MAC,
// changes it. The parts of the XOR are secret, so that nobody can look for other rows with the same
// sum; each write costs a few HMACs however many rows there are. The state is stored under a MAC
// that also says where it stands: so many writes after which anchor (anchor.h).
//
// Private to the vault room; one thread.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "instance_row.h"
#include "key_schedule.h"

namespace vtpm::vault {

// Where the state of the table stands: so many writes after an anchor, by its name. While nobody
// knows whether the chip has taken the next anchor, what is written follows the one or the other.
struct Position {
    Hash anchor{};
    Hash pending{};  // zero: there is none
    std::uint64_t writes = 0;
};

// What belongs to the state of the vault beside the instances.
struct Beside {
    Hash surroundings{};  // a digest of the other tables that matter
    Hash journal{};       // the MAC of its last line
};

class InstanceTable {
  public:
    // Damaged rows beyond this make the table as a whole unreadable.
    static constexpr std::size_t max_damaged = 6;

    // `surroundings` as in Beside; the journal's last MAC is read from the disk. Errc::corrupt if
    // rows are missing or of another state than the rest, or the table cannot be read. Rows that
    // do not verify are kept, in quarantine.
    static Result<InstanceTable> read(Database& database, const TableKeys& keys,
                                      const Uuid& manager, const Hash& surroundings);

    // The state of a table without rows, for setup.
    static Hash empty_state(const TableKeys& keys, const Uuid& manager, const Beside& beside);
    // Writes the one row of `total`, for setup.
    static Result<void> write_total(Database& database, const TableKeys& keys, const Uuid& manager,
                                    const Hash& state, const Position& position,
                                    const Hash& journal);

    Hash state() const { return state_with(beside_); }
    Hash state_with(const Beside& beside) const { return state_of(sum_, counted_, beside); }
    const Beside& beside() const { return beside_; }
    const Position& position() const { return position_; }
    // An anchor of exactly this state was committed.
    void follow(const Hash& anchor) { position_ = {anchor, {}, 0}; }
    // From now on; the writes stay.
    void follow(const Hash& anchor, const Hash& pending) {
        position_.anchor = anchor;
        position_.pending = pending;
    }

    // Any state; nullptr if there never was such an instance.
    const InstanceRow* find(const Uuid& uuid) const;
    // Not deleted, of that name.
    const InstanceRow* find_name(std::string_view name) const;
    std::vector<const InstanceRow*> all() const;  // not deleted ones
    std::vector<const InstanceRow*> all_ever() const;
    std::size_t size() const { return rows_.size(); }
    std::int64_t next_id() const { return last_id_ + 1; }

    // Some row did not verify when the vault was opened and was not removed since.
    bool in_doubt() const { return !unsound_.empty(); }

    // A row (new, or replacing the one with its id), and what else is written with it.
    struct Change {
        InstanceRow row;
        std::function<Result<void>()> also = {};
    };
    // Commits all of them or none, in their order, with what `also` writes and what is beside the
    // rows then. Damaged rows with the same uuids go.
    Result<void> commit_all(std::vector<Change> changes, const Beside& beside,
                            const std::function<Result<void>()>& also);
    Result<void> commit_all(std::vector<Change> changes) {
        return commit_all(std::move(changes), Beside(beside_), {});
    }

    // To be called when the keys have become others; all_ever() is to be committed next.
    void recount();

    // Marks an instance until the vault is opened again; nothing is written.
    void quarantine(const Uuid& uuid, std::string_view why);

  private:
    InstanceTable(Database& database, const TableKeys& keys, const Uuid& manager,
                  const Hash& surroundings)
        : database_(&database), keys_(&keys), manager_(manager), beside_{surroundings, {}} {}

    struct Damaged {
        std::int64_t id;
        std::optional<Hash> counted;  // its part of the sum, if it has one
    };

    Result<void> prepare();
    Result<std::vector<InstanceRow>> read_rows();
    Result<void> read_total(Hash& mac);
    bool complete_sum(std::vector<InstanceRow*>& damaged, std::size_t from, const Hash& mac);
    void take_in(InstanceRow row);
    void keep(InstanceRow row);
    Hash state_of(const Hash& sum, std::uint64_t count, const Beside& beside) const;
    void toggle(Hash& sum, const Hash& mac) const;
    // What the rows of one uuid add to the sum as they are on the disk, to be taken out of it.
    void take_out(const Uuid& uuid, Hash& sum, std::uint64_t& counted) const;
    Result<void> write(const Change& change);
    Result<void> write(const InstanceRow& row);
    Result<void> write_position(const Hash& state, const Beside& beside, std::uint64_t writes);

    Database* database_;
    const TableKeys* keys_;
    Uuid manager_;
    Beside beside_;
    std::optional<Statement> put_;
    std::optional<Statement> erase_records_;
    std::optional<Statement> erase_snapshots_;
    std::optional<Statement> erase_;
    std::optional<Statement> put_total_;

    std::map<Uuid, InstanceRow> rows_;
    std::map<std::string, Uuid, std::less<>> names_;
    std::multimap<Uuid, Damaged> unsound_;  // a uuid may be there twice
    std::int64_t last_id_ = 0;
    Hash sum_{};
    std::uint64_t counted_ = 0;  // rows in sum_
    Position position_;
};

}  // namespace vtpm::vault
