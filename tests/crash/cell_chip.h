// CellChip: a FakeChip whose commands to the cell are operations like the disk's: the power can
// fail before and after them. It can also refuse one, or do it and lose the answer.
#pragma once

#include <functional>

#include "disk.h"
#include "fakes/chip/fake_chip.h"

namespace vtpm::crash {

class CellChip : public fakes::FakeChip {
  public:
    explicit CellChip(Random& random) : random_(random) {}

    // The cell has taken another anchor.
    std::function<void()> on_extend;
    bool troublesome = false;
    // The last sync before the cell is extended, the next anchor's, was a lie.
    bool anchor_not_synced = false;

    Result<chip::CellIndex> define_cell(const SecretBytes& auth,
                                        const chip::CellTag& tag) override {
        if (!step())
            return gone();
        return FakeChip::define_cell(auth, tag);
    }
    Result<void> remove_cell(chip::CellIndex index) override {
        if (!step())
            return gone();
        return FakeChip::remove_cell(index);
    }
    Result<std::optional<chip::CellValue>> read_cell(const chip::Cell& cell,
                                                     const SecretBytes& auth) override {
        if (deaf_ || (Disk::active() != nullptr && Disk::active()->crashed())) {
            deaf_ = false;
            return gone();
        }
        return FakeChip::read_cell(cell, auth);
    }
    Result<chip::CellValue> extend_cell(const chip::Cell& cell, const SecretBytes& auth,
                                        const chip::CellValue& digest) override {
        if (anchor_not_synced && Disk::active() != nullptr)
            Disk::active()->take_back_sync();
        if (!step())
            return gone();
        const std::size_t trouble = troublesome ? below(random_, 16) : 16;
        deaf_ = trouble < 2;
        if (trouble == 0 || trouble == 2)
            return gone();  // not done
        auto value = FakeChip::extend_cell(cell, auth, digest);
        if (value)
            on_extend();
        if (!step() || trouble == 1 || trouble == 3 || trouble == 4)
            return gone();  // done, and nobody hears of it
        return value;
    }

  private:
    static bool step() { return Disk::active() == nullptr || Disk::active()->step(); }
    static tl::unexpected<Error> gone() {
        return fail(Errc::unavailable, NextAction::retry_later, "the chip is away");
    }

    Random& random_;
    bool deaf_ = false;  // to the next question about its cell
};

}  // namespace vtpm::crash
