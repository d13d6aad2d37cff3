// NewCell: a commit cell that was just made, and that is given back if no vault came to use it.
// Private to the vault room.
#pragma once

#include <utility>

#include "vtpm/chip/chip.h"

namespace vtpm::vault {

class NewCell {
  public:
    static Result<NewCell> define(chip::Chip& chip, const SecretBytes& auth,
                                  const chip::CellTag& tag) {
        VTPM_TRY(const auto index, chip.define_cell(auth, tag));
        return NewCell(chip, index);
    }
    NewCell(NewCell&& other) noexcept
        : chip_(std::exchange(other.chip_, nullptr)), index_(other.index_) {}
    NewCell& operator=(NewCell&&) = delete;
    NewCell(const NewCell&) = delete;
    NewCell& operator=(const NewCell&) = delete;
    ~NewCell() {
        if (chip_ != nullptr)
            (void)chip_->remove_cell(index_);
    }
    chip::CellIndex index() const { return index_; }
    void keep() { chip_ = nullptr; }

  private:
    NewCell(chip::Chip& chip, chip::CellIndex index) : chip_(&chip), index_(index) {}
    chip::Chip* chip_;
    chip::CellIndex index_;
};

}  // namespace vtpm::vault
