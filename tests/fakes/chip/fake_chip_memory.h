// FakeChipMemory: what lies in a FakeChip and outlives a call: NV indices and PCRs.
//
// A process that was forked shares it; one image of it can be put in the place of another.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <memory>
#include <new>

#include "vtpm/chip/chip.h"

namespace vtpm::fakes {

struct FakeChipMemory {
    static constexpr chip::CellIndex first_index = 0x01800100;

    enum class Kind { cell, counter, latch };
    struct Cell {
        bool defined = false;
        Kind kind = Kind::cell;
        chip::CellTag tag{};
        // A commit cell's.
        chip::CellValue auth{};
        std::array<chip::CellValue, 2> values{};
        std::uint64_t extends = 0;
        // A counter's or latch's.
        std::uint64_t value = 0;
        bool closed = false;
    };
    std::array<Cell, 8> cells{};
    std::uint64_t highest_counter = 0;  // of any that ever was
    std::array<chip::Digest, chip::Chip::max_pcr + 1> pcrs{};

    Cell& operator[](std::size_t at) { return cells.at(at); }
    auto begin() const { return cells.begin(); }
    auto end() const { return cells.end(); }

    static std::shared_ptr<FakeChipMemory> shared() {
        void* const place = ::mmap(nullptr, sizeof(FakeChipMemory), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED)
            throw std::bad_alloc();
        return {new (place) FakeChipMemory(),
                [](FakeChipMemory* memory) { ::munmap(memory, sizeof(FakeChipMemory)); }};
    }

    // Null: there is none of this number.
    Cell* at(chip::CellIndex index) {
        if (index < first_index || index >= first_index + cells.size())
            return nullptr;
        Cell& cell = cells.at(index - first_index);
        return cell.defined ? &cell : nullptr;
    }

    Result<chip::CellIndex> define(Kind kind, const chip::CellTag& tag) {
        for (std::size_t i = 0; i < cells.size(); ++i) {
            if (cells.at(i).defined)
                continue;
            cells.at(i) = Cell();
            cells.at(i).defined = true;
            cells.at(i).kind = kind;
            cells.at(i).tag = tag;
            if (kind != Kind::cell)
                cells.at(i).value = highest_counter += 1;
            return static_cast<chip::CellIndex>(first_index + i);
        }
        return fail(Errc::too_large, "no room for another NV index");
    }

    // The counter or latch, if it is the one that was defined with this tag.
    Result<Cell*> find(Kind kind, chip::CellIndex index, const chip::CellTag& tag,
                       Errc errc = Errc::wrong_cell) {
        Cell* const cell = at(index);
        if (cell == nullptr || cell->kind != kind || cell->tag != tag)
            return fail(errc, "the NV index was removed or replaced");
        return cell;
    }

    void increment(Cell& counter) {
        ++counter.value;
        highest_counter = std::max(highest_counter, counter.value);
    }
};

}  // namespace vtpm::fakes
