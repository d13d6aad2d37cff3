// Epochs: when and how the state of the vault is committed to the chip's cell.
//
// A guest's write costs no chip command: it is durable in the database, with a MAC that says how
// many writes after which anchor it is. An epoch's commit writes the next anchor to the database
// and then extends the cell by its name, which is the one moment that counts. Between two commits
// an older state of the same epoch cannot be told from the newest: reference/sealing.md 2.3, 2.6.
//
// Private to the vault room; one thread. The chip and the database are lent.
#pragma once

#include "anchor.h"

namespace vtpm::vault {

struct CommitCell {
    chip::CellIndex index = 0;
    SecretBytes auth;
    chip::CellTag tag{};
};

class Epochs {
  public:
    // Commit after so many writes, or so long after the first of them, while there are tokens; and
    // in any case after the longest time.
    static constexpr std::uint64_t max_writes = 64;
    static constexpr std::int64_t max_seconds = 30;
    static constexpr std::int64_t longest_seconds = 3600;

    Epochs(chip::Chip& chip, Database& database, const Uuid& manager, CommitCell cell,
           SecretBytes anchor_key)
        : chip_(&chip),
          database_(&database),
          manager_(manager),
          cell_(std::move(cell)),
          anchor_key_(std::move(anchor_key)) {}

    // Finds the anchor that the cell names. Errc::rolled_back if there is none, wrong_cell,
    // not_found, and what the chip says.
    Result<void> resume();

    const Anchor& current() const { return current_; }
    const Hash& name() const { return name_; }

    // The name of an anchor that the chip has taken, or not: its answer was lost, and it cannot be
    // asked now. What is written meanwhile may follow either.
    std::optional<Hash> pending() const;
    // `urgent`: to be committed as soon as the chip takes it, tokens or not.
    void wrote(std::int64_t now, bool urgent, std::uint64_t writes);
    std::uint64_t writes() const { return writes_; }
    std::int64_t tokens(std::int64_t now) const;
    bool due(std::int64_t now) const;

    // The epochs from here on, in a cell that nothing was committed to yet: it is extended by an
    // anchor, current(), which has to be written together with what makes this cell the vault's.
    Result<Epochs> in_new_cell(CommitCell cell, const Hash& state, std::int64_t now) const;

    // Errc::rolled_back: the cell holds what we did not put there.
    Result<void> commit(const Hash& state, std::int64_t now);

  private:
    Result<void> extend(const Anchor& next);
    Result<void> settle();
    void advance(const Anchor& next, const chip::CellValue& value);
    Result<chip::CellValue> read_cell();

    chip::Chip* chip_;
    Database* database_;
    Uuid manager_;
    CommitCell cell_;
    SecretBytes anchor_key_;

    Anchor current_;
    Hash name_{};                    // of current_
    chip::CellValue value_{};        // of the cell
    std::optional<Anchor> pending_;  // extended by it, or not: nobody has told us
    std::uint64_t writes_ = 0;       // since current_
    std::int64_t first_write_ = 0;   // unix seconds, if there are any
    bool urgent_ = false;            // one of them must not wait
    std::int64_t not_before_ = 0;    // a chip that spares its memory is not asked again at once
};

}  // namespace vtpm::vault
