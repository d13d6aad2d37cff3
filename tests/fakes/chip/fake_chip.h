// FakeChip: a Chip in memory that can refuse, cheat and fail the nth call.
//
// Two fakes of the same seed are the same chip, in another process too. What it seals is hidden
// from nobody: this is for tests of what is built on a chip. One thread.
#pragma once

#include <openssl/sha.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <new>
#include <optional>

#include "vtpm/chip/chip.h"

namespace vtpm::fakes {

class FakeChip : public chip::Chip {
  public:
    explicit FakeChip(std::uint8_t seed = 1) : seed_(seed) {}

    // Every call from now on gives `error`; std::nullopt: works again.
    void refuse(std::optional<Error> error) { refusal_ = std::move(error); }
    // The nth call from now (1: the next) gives `error`, once.
    void fail_nth(int nth, Error error) {
        countdown_ = nth;
        failure_ = std::move(error);
    }
    // Changes every secret that is given out by unseal() or random().
    void cheat(std::function<void(SecretBytes&)> how) { cheat_ = std::move(how); }
    int calls() const { return calls_; }

    Result<chip::ChipIdentity> identify() override {
        VTPM_CHECK(enter());
        return identity();
    }

    Result<void> expect(const chip::ChipIdentity& wanted) override {
        VTPM_CHECK(enter());
        if (wanted.srk_name != identity().srk_name || wanted.srk_public != identity().srk_public) {
            return fail(Errc::wrong_chip, "not the chip of the set-up");
        }
        pinned_ = true;
        return {};
    }

    Result<chip::SealedObject> seal(const SecretBytes& secret) override {
        VTPM_CHECK(enter_pinned());
        if (secret.empty())
            return fail(Errc::invalid_argument, "nothing to seal");
        if (secret.size() > max_sealed_size)
            return fail(Errc::too_large, "too much to seal");
        chip::SealedObject sealed{Bytes{0, 1, seed_}, Bytes()};
        std::uint8_t sum = seed_;
        for (const auto byte : secret.view()) {
            sealed.private_area.push_back(static_cast<std::uint8_t>(byte ^ 0xa5U ^ seed_));
            sum = static_cast<std::uint8_t>(sum * 31 + byte);
        }
        sealed.private_area.push_back(sum);
        return sealed;
    }

    Result<SecretBytes> unseal(const chip::SealedObject& sealed) override {
        VTPM_CHECK(enter_pinned());
        if (sealed.public_area.size() != 3 || sealed.private_area.size() < 2) {
            return fail(Errc::corrupt, "not an object that was sealed by us");
        }
        SecretBytes secret(sealed.private_area.size() - 1);
        std::uint8_t sum = seed_;
        for (std::size_t i = 0; i < secret.size(); ++i) {
            secret.span()[i] = static_cast<std::uint8_t>(sealed.private_area[i] ^ 0xa5U ^ seed_);
            sum = static_cast<std::uint8_t>(sum * 31 + secret.view()[i]);
        }
        if (sealed.public_area != Bytes{0, 1, seed_} || sum != sealed.private_area.back()) {
            return fail(Errc::wrong_chip, "another chip sealed this, or it was changed since");
        }
        if (cheat_)
            cheat_(secret);
        return secret;
    }

    Result<SecretBytes> random(std::size_t size) override {
        VTPM_CHECK(enter_pinned());
        SecretBytes out(size);
        for (auto& byte : out.span())
            byte = static_cast<std::uint8_t>(state_ = state_ * 5 + 113);
        if (cheat_)
            cheat_(out);
        return out;
    }

    Result<chip::CellIndex> define_cell(const SecretBytes& auth,
                                        const chip::CellTag& tag) override {
        VTPM_CHECK(enter_pinned());
        for (std::size_t i = 0; i < memory_->size(); ++i) {
            Cell& cell = (*memory_)[i];
            if (cell.defined)
                continue;
            cell = Cell();
            std::copy_n(auth.view().begin(), cell.auth.size(), cell.auth.begin());
            cell.tag = tag;
            cell.defined = true;
            return static_cast<chip::CellIndex>(first_cell + i);
        }
        return fail(Errc::too_large, "no room for another cell");
    }

    Result<std::optional<chip::CellValue>> read_cell(const chip::Cell& wanted,
                                                     const SecretBytes& auth) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(const Cell* const cell, find(wanted, auth));
        if (cell->extends == 0)
            return std::nullopt;
        return cell->values[cell->extends % 2];
    }

    Result<chip::CellValue> extend_cell(const chip::Cell& wanted, const SecretBytes& auth,
                                        const chip::CellValue& digest) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(Cell* const cell, find(wanted, auth));
        const auto& old = cell->values[cell->extends % 2];
        auto& next = cell->values[(cell->extends + 1) % 2];
        std::array<std::uint8_t, 64> text{};
        std::copy(old.begin(), old.end(), text.begin());
        std::copy(digest.begin(), digest.end(), text.begin() + 32);
        ::SHA256(text.data(), text.size(), next.data());
        ++cell->extends;  // the one moment that counts, for who is killed here
        if (lost_answer_) {
            auto error = *std::exchange(lost_answer_, std::nullopt);
            return tl::make_unexpected(std::move(error));
        }
        return next;
    }

    Result<void> remove_cell(chip::CellIndex index) override {
        VTPM_CHECK(enter_pinned());
        if (index >= first_cell && index < first_cell + memory_->size())
            (*memory_)[index - first_cell].defined = false;
        return {};
    }

    Result<void> remove_other_cells(const chip::Cell& keep) override {
        VTPM_CHECK(enter_pinned());
        for (std::size_t i = 0; i < memory_->size(); ++i) {
            if (first_cell + i != keep.index && (*memory_)[i].tag == keep.tag)
                (*memory_)[i].defined = false;
        }
        return {};
    }

    // The next extend is done, and its answer is `error`.
    void lose_answer(Error error) { lost_answer_ = std::move(error); }

    // The chip's NV memory. A process that was forked shares it; one image of it can be put in the
    // place of another.
    struct Cell {
        bool defined = false;
        chip::CellValue auth{};
        chip::CellTag tag{};
        std::array<chip::CellValue, 2> values{};
        std::uint64_t extends = 0;
    };
    using Memory = std::array<Cell, 4>;
    Memory& memory() { return *memory_; }

  private:
    static constexpr chip::CellIndex first_cell = 0x01800100;

    Result<Cell*> find(const chip::Cell& wanted, const SecretBytes& auth) {
        const auto index = wanted.index;
        if (index < first_cell || index >= first_cell + memory_->size() ||
            !(*memory_)[index - first_cell].defined) {
            return fail(Errc::wrong_cell, "no such cell");
        }
        Cell& cell = (*memory_)[index - first_cell];
        if (cell.tag != wanted.tag || !equal_constant_time(cell.auth, auth.view()))
            return fail(Errc::wrong_cell, "the cell does not know this authorization value");
        return &cell;
    }

    static std::shared_ptr<Memory> shared_memory() {
        void* const place = ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED)
            throw std::bad_alloc();
        return {new (place) Memory(), [](Memory* memory) { ::munmap(memory, sizeof(Memory)); }};
    }

    chip::ChipIdentity identity() const {
        Bytes name(34, seed_);
        name[0] = 0;
        name[1] = 0x0b;
        return {Bytes(90, seed_), name, "FAKE", "1.2.3.4"};
    }

    Result<void> enter() {
        ++calls_;
        if (countdown_ > 0 && --countdown_ == 0)
            return tl::make_unexpected(*failure_);
        if (refusal_)
            return tl::make_unexpected(*refusal_);
        return {};
    }

    Result<void> enter_pinned() {
        VTPM_CHECK(enter());
        if (!pinned_)
            return fail(Errc::invalid_argument, "no chip identity is pinned");
        return {};
    }

    std::shared_ptr<Memory> memory_ = shared_memory();
    std::optional<Error> lost_answer_;
    std::uint8_t seed_;
    std::uint32_t state_ = 7;
    bool pinned_ = false;
    int calls_ = 0;
    int countdown_ = 0;
    std::optional<Error> failure_;
    std::optional<Error> refusal_;
    std::function<void(SecretBytes&)> cheat_;
};

}  // namespace vtpm::fakes
