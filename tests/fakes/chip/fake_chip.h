// FakeChip: a Chip in memory that can refuse, cheat and fail the nth call.
//
// Two fakes of the same seed are the same chip, in another process too. What it seals is hidden
// from nobody, but it is as strict about bindings and approvals as a real one: this is for tests of
// what is built on a chip. One thread.
#pragma once

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>

#include "fakes/chip/fake_chip_memory.h"
#include "vtpm/chip/policy.h"

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
    // Before every call: the moment at which the power may fail.
    void on_call(std::function<void()> look) { look_ = std::move(look); }
    // Changes every secret that is given out by unseal() or random().
    void cheat(std::function<void(SecretBytes&)> how) { cheat_ = std::move(how); }
    int calls() const { return calls_; }

    // What a boot measured.
    void set_pcr(std::uint8_t number, const chip::Digest& value) {
        memory_->pcrs.at(number) = value;
    }
    // The host reboots: latches open. It measures what it did before, until set_pcr().
    void reset() {
        for (auto& cell : memory_->cells)
            cell.closed = false;
    }
    // As chips whose firmware has turned the SHA-256 bank off.
    void lose_pcr_bank() { has_pcrs_ = false; }

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

    Result<chip::SealedObject> seal(const SecretBytes& secret,
                                    const chip::Binding& binding) override {
        VTPM_CHECK(enter_pinned());
        if (secret.empty())
            return fail(Errc::invalid_argument, "nothing to seal");
        if (secret.size() > max_sealed_size)
            return fail(Errc::too_large, "too much to seal");
        VTPM_TRY(const chip::Digest policy, chip::policy::digest_of(binding));
        if (binding.approver) {
            const auto& counter = binding.approver->counter;
            VTPM_CHECK(memory_->find(Kind::counter, counter.index, counter.tag));
        }
        if (binding.latch)
            VTPM_CHECK(closed(*binding.latch));
        chip::SealedObject sealed{public_area(seed_, policy), Bytes()};
        std::uint8_t sum = first_sum(policy);
        for (const auto byte : secret.view()) {
            sealed.private_area.push_back(static_cast<std::uint8_t>(byte ^ 0xa5U ^ seed_));
            sum = static_cast<std::uint8_t>(sum * 31 + byte);
        }
        sealed.private_area.push_back(sum);
        return sealed;
    }

    Result<SecretBytes> unseal(const chip::SealedObject& sealed, const chip::Binding& binding,
                               const chip::Approval* approval) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(const chip::Digest policy, chip::policy::digest_of(binding));
        if (sealed.public_area.size() != public_area(seed_, policy).size() ||
            !std::equal(policy.begin(), policy.end(), sealed.public_area.end() - 32) ||
            sealed.private_area.size() < 2) {
            return fail(Errc::corrupt, "not an object that was sealed by us with this binding");
        }
        SecretBytes secret(sealed.private_area.size() - 1);
        std::uint8_t sum = first_sum(policy);
        for (std::size_t i = 0; i < secret.size(); ++i) {
            secret.span()[i] = static_cast<std::uint8_t>(sealed.private_area[i] ^ 0xa5U ^ seed_);
            sum = static_cast<std::uint8_t>(sum * 31 + secret.view()[i]);
        }
        if (sealed.public_area != public_area(seed_, policy) || sum != sealed.private_area.back())
            return fail(Errc::wrong_chip, "another chip sealed this, or it was changed since");
        VTPM_CHECK(satisfied(binding, approval));
        if (cheat_)
            cheat_(secret);
        return secret;
    }

    Result<chip::PcrValues> read_pcrs(const std::vector<std::uint8_t>& numbers) override {
        VTPM_CHECK(enter_pinned());
        if (numbers.empty())
            return fail(Errc::invalid_argument, "no PCR is asked for");
        chip::PcrValues out;
        for (const auto number : numbers) {
            if (number > max_pcr)
                return fail(Errc::invalid_argument, "there are the PCRs 0 to 23");
            out[number] = memory_->pcrs.at(number);
        }
        if (!has_pcrs_)
            return fail(Errc::unsupported, "the chip has no SHA-256 bank");
        return out;
    }

    Result<Bytes> approver_key(std::string_view pem) override {
        return chip::policy::approver_key(pem);
    }

    Result<chip::Digest> approver_fingerprint(ByteView key) override {
        return chip::policy::fingerprint(key);
    }

    Result<Bytes> words_to_sign(const chip::Approver& approver, const chip::PcrValues& pcrs,
                                std::uint64_t limit) override {
        return chip::policy::words_to_sign(approver, pcrs, limit);
    }

    Result<void> check_approval(const chip::Approver& approver,
                                const chip::Approval& approval) override {
        return chip::policy::check_approval(approver, approval);
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
        VTPM_TRY(const auto index, memory_->define(Kind::cell, tag));
        std::copy_n(auth.view().begin(), cell_auth_size, memory_->at(index)->auth.begin());
        return index;
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
        VTPM_CHECK(answered());
        return next;
    }

    Result<chip::Counter> define_counter(const chip::CellTag& tag) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(const auto index, memory_->define(Kind::counter, tag));
        return chip::Counter{index, tag};
    }

    Result<chip::Latch> define_latch(const chip::CellTag& tag) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(const auto index, memory_->define(Kind::latch, tag));
        return chip::Latch{index, tag, memory_->at(index)->value};
    }

    Result<std::uint64_t> read_counter(const chip::Counter& counter) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(const Cell* const cell, memory_->find(Kind::counter, counter.index, counter.tag));
        return cell->value;
    }

    Result<std::uint64_t> increment_counter(const chip::Counter& counter) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(Cell* const cell, memory_->find(Kind::counter, counter.index, counter.tag));
        memory_->increment(*cell);
        VTPM_CHECK(answered());
        return cell->value;
    }

    Result<void> close_latch(const chip::Latch& latch) override {
        VTPM_CHECK(enter_pinned());
        VTPM_TRY(Cell* const cell, memory_->find(Kind::latch, latch.index, latch.tag));
        cell->closed = true;
        return answered();
    }

    Result<bool> latch_closed(const chip::Latch& latch) override {
        VTPM_CHECK(enter_pinned());
        return closed(latch);
    }

    Result<void> remove_cell(chip::CellIndex index) override {
        VTPM_CHECK(enter_pinned());
        Cell* const cell = memory_->at(index);
        if (cell == nullptr)
            return fail(Errc::wrong_cell, "no such NV index");
        cell->defined = false;
        return {};
    }

    Result<std::vector<chip::CellIndex>> cells() override {
        VTPM_CHECK(enter());
        std::vector<chip::CellIndex> found;
        for (std::size_t i = 0; i < memory_->cells.size(); ++i) {
            if ((*memory_)[i].defined && (*memory_)[i].kind == Memory::Kind::cell)
                found.push_back(static_cast<chip::CellIndex>(Memory::first_index + i));
        }
        return found;
    }
    Result<void> remove_other_cells(const chip::Cell& keep) override {
        VTPM_CHECK(enter_pinned());
        for (std::size_t i = 0; i < memory_->cells.size(); ++i) {
            if (Memory::first_index + i != keep.index && (*memory_)[i].tag == keep.tag)
                (*memory_)[i].defined = false;
        }
        return {};
    }

    // The next extend, increment or closing is done, and its answer is `error`.
    void lose_answer(Error error) { lost_answer_ = std::move(error); }

    using Memory = FakeChipMemory;
    Memory& memory() { return *memory_; }

  private:
    using Cell = Memory::Cell;
    using Kind = Memory::Kind;

    Result<Cell*> find(const chip::Cell& wanted, const SecretBytes& auth) {
        VTPM_TRY(Cell* const cell, memory_->find(Kind::cell, wanted.index, wanted.tag));
        if (!equal_constant_time(cell->auth, auth.view()))
            return fail(Errc::wrong_cell, "the cell does not know this authorization value");
        return cell;
    }

    Result<bool> closed(const chip::Latch& latch) {
        VTPM_TRY(const Cell* const cell, memory_->find(Kind::latch, latch.index, latch.tag));
        if (!cell->closed && cell->value != latch.value)
            return fail(Errc::wrong_cell, "the latch was replaced");
        return cell->closed;
    }

    static Bytes public_area(std::uint8_t seed, const chip::Digest& policy) {
        return ByteWriter().u8(0).u8(1).u8(seed).bytes(policy).take();
    }

    // Of what authenticates the private area: it belongs to one chip and one policy.
    std::uint8_t first_sum(const chip::Digest& policy) const {
        return static_cast<std::uint8_t>(seed_ ^ policy.front());
    }

    Result<void> satisfied(const chip::Binding& binding, const chip::Approval* approval) {
        if (binding.approver) {
            if (approval == nullptr)
                return fail(Errc::not_approved, "no approval was given");
            VTPM_CHECK(chip::policy::check_approval(*binding.approver, *approval));
            for (const auto& [number, value] : approval->pcrs) {
                if (!has_pcrs_ || memory_->pcrs.at(number) != value)
                    return fail(Errc::not_approved, "this is not the boot that was approved");
            }
            const auto& counter = binding.approver->counter;
            VTPM_TRY(const Cell* const cell,
                     memory_->find(Kind::counter, counter.index, counter.tag, Errc::not_approved));
            if (cell->value > approval->limit)
                return fail(Errc::not_approved, "this approval was revoked");
        }
        if (binding.latch) {
            VTPM_TRY(const Cell* const cell, memory_->find(Kind::latch, binding.latch->index,
                                                           binding.latch->tag, Errc::latched));
            if (cell->closed || cell->value != binding.latch->value)
                return fail(Errc::latched, "the latch is closed, or was replaced");
        }
        return {};
    }

    Result<void> answered() {
        if (lost_answer_)
            return tl::make_unexpected(*std::exchange(lost_answer_, std::nullopt));
        return {};
    }

    chip::ChipIdentity identity() const {
        Bytes name(34, seed_);
        name[0] = 0;
        name[1] = 0x0b;
        return {Bytes(90, seed_), name, "FAKE", "1.2.3.4"};
    }

    Result<void> enter() {
        ++calls_;
        if (look_)
            look_();
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

    std::shared_ptr<Memory> memory_ = Memory::shared();
    bool has_pcrs_ = true;
    std::optional<Error> lost_answer_;
    std::uint8_t seed_;
    std::uint32_t state_ = 7;
    bool pinned_ = false;
    int calls_ = 0;
    int countdown_ = 0;
    std::optional<Error> failure_;
    std::optional<Error> refusal_;
    std::function<void(SecretBytes&)> cheat_;
    std::function<void()> look_;
};

}  // namespace vtpm::fakes
