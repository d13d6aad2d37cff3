// SocketTpm's state blobs: a TPM that is put by in the vault, for another machine on this host or
// for a later one.
#include <sys/random.h>

#include <cerrno>

#include "control_message.h"
#include "socket_tpm.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

Result<std::uint64_t> random_label() {
    std::uint64_t label = 0;
    if (::getrandom(&label, sizeof(label), 0) != sizeof(label))
        return fail_errno("getrandom", errno);
    return label | std::uint64_t{1} << 63U;  // of no domain's life
}

}  // namespace

Result<void> SocketTpm::suspend(std::uint64_t label) {
    VTPM_CHECK(engine_->suspend(label));
    spdlog::info("{}: the TPM is put by", who());
    return {};
}

std::uint32_t SocketTpm::park() {
    if (power_ != Power::on)
        return result::bad_ordinal;
    auto label = random_label();
    if (!label)
        return failed("no label", label.error());
    if (keep_as_)
        label = *std::exchange(keep_as_, std::nullopt);
    if (const auto suspended = suspend(*label); !suspended) {
        engine_died(suspended.error().context);
        return result::fail;
    }
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
        return result::success;
    }
    const auto result = failed("the TPM that was put by does not go on here", on.error());
    if (const auto fresh = go_dark(); !fresh)
        (void)failed("another engine", fresh.error());
    power_ = Power::failed;
    return result;
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
    if (ticket.type == BlobType::volatile_state && ticket.label != 0)
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

}  // namespace vtpm::swtpm
