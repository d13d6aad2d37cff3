// SocketTpm's state blobs: a TPM that is put by in the vault, for another machine on this host or
// for a later one.
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <thread>

#include "control_message.h"
#include "socket_tpm.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

constexpr std::chrono::milliseconds unpark_interval{1000};
// For a manager that is being restarted.
constexpr std::chrono::milliseconds put_by_patience{5000};
constexpr std::chrono::milliseconds put_by_interval{300};

Result<std::uint64_t> random_label() {
    std::uint64_t label = 0;
    if (::getrandom(&label, sizeof(label), 0) != sizeof(label))
        return fail_errno("getrandom", errno);
    return label | std::uint64_t{1} << 63U;  // of no domain's life
}

}  // namespace

// An engine that could not do it is as it was before, and is asked again. `if_unused`: a TPM that
// has done something since it was taken over is switched off instead: false.
Result<bool> SocketTpm::put_by(std::uint64_t label, bool if_unused) {
    const auto end = Clock::now() + put_by_patience;
    if (if_unused)
        engine_->cancel();  // a command that runs means that it is switched off
    for (;;) {
        const auto done = engine_->suspend(label, if_unused);
        if (done && *done && if_unused)
            spdlog::info("{}: nothing has happened to the TPM here: it is put by again", who());
        if (done || !engine_->in_step() || Clock::now() >= end)
            return done;
        std::this_thread::sleep_for(put_by_interval);
        look_after_manager();
    }
}

std::uint32_t SocketTpm::park() {
    if (power_ != Power::on)
        return result::bad_ordinal;
    auto label = random_label();
    if (!label)
        return failed("no label", label.error());
    keep_as_.reset();
    begins_again_ = false;
    if (const auto done = put_by(*label, false); !done) {
        if (engine_->in_step())
            return failed("the TPM could not be put by and goes on", done.error());
        engine_died(done.error().context);
        return result::fail;
    }
    spdlog::info("{}: the TPM is put by", who());
    drop_engine();
    power_ = Power::parked;
    parked_as_ = *label;
    manager_.close();
    return result::success;
}

std::uint32_t SocketTpm::unpark(std::chrono::milliseconds patience) {
    if (power_ != Power::parked)
        return result::success;
    const auto on = power_on(parked_as_, patience);
    if (on) {
        spdlog::info("{}: the TPM that was put by goes on here", who());
        resumed_as_.reset();
        return result::success;
    }
    const auto result = failed("the TPM that was put by does not go on here", on.error());
    if (!label_refused_) {  // it is still there
        drop_engine();
        manager_.close();
        power_ = Power::parked;
        return result;
    }
    if (const auto fresh = go_dark(); !fresh)
        (void)failed("another engine", fresh.error());
    power_ = Power::failed;
    return result;
}

void SocketTpm::on_parked_data(std::chrono::milliseconds patience) {
    char first = 0;
    const auto there = ::recv(data_.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (there == 0 || (there < 0 && errno != EAGAIN && errno != EINTR))
        data_.reset();
    if (there <= 0 || unpark(patience) == result::success || !is_parked())
        return;
    // Its guest waits for an answer.
    if (const auto fresh = go_dark(); !fresh)
        (void)failed("another engine", fresh.error());
    power_ = Power::parked;
    retry_at_ = Clock::now() + unpark_interval;
}

// A migration may have failed on this side after its INIT: then its source wants the TPM back.
Result<void> SocketTpm::abandon() {
    spdlog::warn("{}: its machine is gone without a word", who());
    keep_as_.reset();
    (void)finish();
    return go_dark();
}

StateTicket SocketTpm::ticket(BlobType type) const {
    return {type, instance_.uuid, power_ == Power::parked ? parked_as_ : 0};
}

std::uint32_t SocketTpm::take_ticket(const StateTicket& ticket) {
    if (power_ == Power::on)
        return result::bad_ordinal;
    if (ticket.instance != instance_.uuid) {
        return failed("a state blob", Error{Errc::permission, NextAction::refuse,
                                            "it is of instance " + ticket.instance.to_string()});
    }
    if (ticket.label == 0)
        return result::bad_parameter;  // none that was given out
    if (ticket.type == BlobType::volatile_state)
        resume_ = ticket.label;
    return result::success;
}

StateTicket SocketTpm::keep_volatile() {
    StateTicket kept{BlobType::volatile_state, instance_.uuid, 0};
    if (power_ != Power::on)
        return kept;
    if (!keep_as_) {
        const auto label = random_label();
        if (!label)
            return kept;
        keep_as_ = *label;
    }
    kept.label = *keep_as_;
    return kept;
}

std::uint32_t SocketTpm::begin_where_it_is() {
    if (is_on()) {
        const auto kept = keep_as_;
        if (const auto parked = park(); parked != result::success) {
            keep_as_ = is_on() ? kept : std::nullopt;
            return parked;
        }
        begins_again_ = true;
    }
    const auto begun = unpark(init_patience);
    if (!is_parked())
        begins_again_ = false;
    return begun;
}

}  // namespace vtpm::swtpm
