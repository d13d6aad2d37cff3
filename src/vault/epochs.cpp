#include "epochs.h"

namespace vtpm::vault {
namespace {

constexpr std::int64_t retry_seconds = 30;

tl::unexpected<Error> alarm() {
    return fail(Errc::rolled_back,
                "the chip remembers another state of the vault than the one on the disk, which is "
                "an older copy; if you have put it there, from a backup: vtpmctl recover");
}

// Under a running vault: who did it knows the cell's authorization value.
tl::unexpected<Error> foreign() {
    return fail(Errc::rolled_back,
                "the chip's commit cell was changed by somebody who is not this vtpmmgrd; if what "
                "is on the disk is what you want: vtpmctl recover");
}

}  // namespace

Result<chip::CellValue> Epochs::read_cell() {
    VTPM_TRY(const auto value, chip_->read_cell({cell_.index, cell_.tag}, cell_.auth));
    return value.value_or(chip::CellValue{});
}

Result<void> Epochs::resume() {
    VTPM_TRY(const auto value, read_cell());
    VTPM_TRY(const auto found, find_anchor(*database_, manager_, anchor_key_, value));
    if (!found)
        return alarm();
    advance(*found, value);
    return {};
}

Result<Epochs> Epochs::in_new_cell(CommitCell cell, const Hash& state, std::int64_t now) const {
    Epochs next(*chip_, *database_, manager_, std::move(cell), anchor_key_.clone());
    VTPM_TRY(const Anchor first, next_anchor(current_, {}, state, now, manager_, anchor_key_));
    const Hash name = name_of(first, manager_);
    VTPM_TRY(const auto value,
             chip_->extend_cell({next.cell_.index, next.cell_.tag}, next.cell_.auth, name));
    if (value != value_after({}, name))
        return foreign();
    next.advance(first, value);
    return next;
}

void Epochs::advance(const Anchor& next, const chip::CellValue& value) {
    current_ = next;
    name_ = name_of(next, manager_);
    value_ = value;
    pending_.reset();
}

std::optional<Hash> Epochs::pending() const {
    if (!pending_)
        return std::nullopt;
    return name_of(*pending_, manager_);
}

// Asks the chip whether it has taken the pending anchor. What was written since is not counted from
// there: the next commit comes a little early then.
Result<void> Epochs::settle() {
    if (!pending_)
        return {};
    VTPM_TRY(const auto value, read_cell());
    if (value == value_) {
        pending_.reset();
        return {};
    }
    if (value != value_after(value_, name_of(*pending_, manager_)))
        return foreign();
    advance(*pending_, value);
    return {};
}

void Epochs::wrote(std::int64_t now, bool urgent, std::uint64_t writes) {
    if (writes_ == 0)
        first_write_ = now;
    writes_ += writes;
    urgent_ = urgent_ || urgent;
}

std::int64_t Epochs::tokens(std::int64_t now) const {
    TokenBucket bucket = current_.bucket;
    bucket.refill(now);
    return bucket.tokens;
}

bool Epochs::due(std::int64_t now) const {
    // A clock that went back makes neither a wait nor an epoch longer.
    if (now < not_before_ && not_before_ - now <= retry_seconds)
        return false;
    if (pending_ || urgent_)
        return true;
    if (writes_ == 0)
        return false;
    const std::int64_t age = now < first_write_ ? max_seconds : now - first_write_;
    if (age >= longest_seconds)
        return true;
    return tokens(now) > 0 && (writes_ >= max_writes || age >= max_seconds);
}

Result<void> Epochs::commit(const Hash& state, std::int64_t now) {
    not_before_ = now + retry_seconds;
    VTPM_CHECK(settle());
    VTPM_TRY(const Anchor next, next_anchor(current_, value_, state, now, manager_, anchor_key_));
    {
        VTPM_TRY(Transaction transaction, Transaction::begin(*database_));
        VTPM_CHECK(write(*database_, next));
        VTPM_CHECK(transaction.commit());
    }
    VTPM_CHECK(extend(next));
    not_before_ = 0;
    writes_ = 0;
    first_write_ = 0;
    urgent_ = false;
    return {};
}

Result<void> Epochs::extend(const Anchor& next) {
    pending_ = next;
    const Hash name = name_of(next, manager_);
    auto value = chip_->extend_cell({cell_.index, cell_.tag}, cell_.auth, name);
    if (!value) {
        // Done or not done, as far as the answer says. If the chip can be asked, it is known now.
        const auto settled = settle();
        if (!settled && settled.error().code == Errc::rolled_back)
            return settled;
        if (!settled || current_.epoch != next.epoch)
            return tl::make_unexpected(std::move(value).error());
        return {};
    }
    if (*value != value_after(value_, name))
        return foreign();
    advance(next, *value);
    return {};
}

}  // namespace vtpm::vault
