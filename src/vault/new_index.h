// NewIndex: an NV index of the chip that was just made, and that is given back if no vault came to
// use it. Private to the vault room.
#pragma once

#include <utility>

#include "vtpm/chip/chip.h"

namespace vtpm::vault {

class NewIndex {
  public:
    NewIndex(chip::Chip& chip, chip::CellIndex index) : chip_(&chip), index_(index) {}
    NewIndex(NewIndex&& other) noexcept
        : chip_(std::exchange(other.chip_, nullptr)), index_(other.index_) {}
    NewIndex& operator=(NewIndex&&) = delete;
    NewIndex(const NewIndex&) = delete;
    NewIndex& operator=(const NewIndex&) = delete;
    ~NewIndex() {
        if (chip_ != nullptr)
            (void)chip_->remove_cell(index_);
    }
    void keep() { chip_ = nullptr; }

  private:
    chip::Chip* chip_;
    chip::CellIndex index_;
};

}  // namespace vtpm::vault
