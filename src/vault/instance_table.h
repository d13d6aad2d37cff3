// InstanceTable: the rows of all instances, verified once and then held in memory.
//
// The memory is what is believed: a row on the disk is read when the vault opens and written when
// it changes, so nobody can change it underneath. Memory follows the disk only after a commit.
//
// The set as a whole has a MAC, too: HMAC(K_total, count | XOR over rows of HMAC(K_sum, row MAC)).
// A row that is missing, or is an older one with its old MAC, changes it. The parts of the XOR are
// secret, so that nobody can look for other rows with the same sum; each write costs two HMACs
// however many rows there are. The anchor protocol will put this MAC's job into the chip.
//
// Private to the vault room; one thread.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "instance_row.h"
#include "key_schedule.h"

namespace vtpm::vault {

class InstanceTable {
  public:
    // Errc::corrupt if rows are missing or of an older state, or the table cannot be read. Rows
    // that do not verify are kept, in quarantine; then missing ones cannot be told (see
    // in_doubt()).
    static Result<InstanceTable> read(Database& database, const TableKeys& keys,
                                      const Uuid& manager);

    // The MAC of a table without rows, for setup.
    static Hash empty_total(const TableKeys& keys, const Uuid& manager);

    // Any state; nullptr if there never was such an instance.
    const InstanceRow* find(const Uuid& uuid) const;
    // Not deleted, of that name.
    const InstanceRow* find_name(std::string_view name) const;
    std::vector<const InstanceRow*> all() const;  // not deleted ones
    std::size_t size() const { return rows_.size(); }
    std::int64_t next_id() const { return last_id_ + 1; }

    // Some row did not verify when the vault was opened and was not removed since.
    bool in_doubt() const { return !unsound_.empty(); }

    // Commits `row` (new, or replacing the one with its id) together with what `also` writes.
    // Damaged rows with the same uuid go.
    Result<void> commit(InstanceRow row, const std::function<Result<void>()>& also = {});

    // Marks an instance until the vault is opened again; nothing is written.
    void quarantine(const Uuid& uuid, std::string_view why);

  private:
    InstanceTable(Database& database, const TableKeys& keys, const Uuid& manager)
        : database_(&database), keys_(&keys), manager_(manager) {}

    Result<void> prepare();
    Result<void> read_rows();
    void keep(InstanceRow row);
    Hash total_of(const Hash& sum, std::uint64_t count) const;
    void toggle(Hash& sum, const Hash& mac) const;
    void add(const InstanceRow& row);
    void take_out(const InstanceRow& row);
    Result<void> write(const InstanceRow& row);

    Database* database_;
    const TableKeys* keys_;
    Uuid manager_;
    std::optional<Statement> put_;
    std::optional<Statement> erase_records_;
    std::optional<Statement> erase_;
    std::optional<Statement> put_total_;

    std::map<Uuid, InstanceRow> rows_;
    std::map<std::string, Uuid, std::less<>> names_;
    std::multimap<Uuid, std::int64_t> unsound_;  // with their ids: a uuid may be there twice
    std::int64_t last_id_ = 0;
    Hash sum_{};
    std::uint64_t counted_ = 0;  // rows in sum_
};

}  // namespace vtpm::vault
