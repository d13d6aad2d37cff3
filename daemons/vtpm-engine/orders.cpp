#include "orders.h"

#include <poll.h>

#include <utility>

#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::engine_program {
namespace {

constexpr std::chrono::seconds order_time{30};

}  // namespace

Result<wire::Frame> Orders::next() {
    if (put_off_)
        return std::move(*std::exchange(put_off_, std::nullopt));
    return doorman_.receive_with_descriptor(order_time);
}

std::optional<Fd> Orders::await_channel(Patience patience, const Aside& aside) {
    if (waited_ || put_off_)
        return std::nullopt;
    const auto end = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto left = std::chrono::ceil<Patience>(end - std::chrono::steady_clock::now());
        pollfd wanted{doorman_.fd(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&wanted, 1, static_cast<int>(left.count())) <= 0) {
            waited_ = true;
            return std::nullopt;
        }
        auto frame = doorman_.receive_with_descriptor(order_time);
        if (!frame)
            return std::nullopt;  // and so will be the next order, which ends us
        const auto order = wire::parse<wire::proto::Order>(*frame);
        if (order && aside(*order))
            continue;
        if (!order || !order->has_attach()) {
            put_off_ = std::move(*frame);
            return std::nullopt;
        }
        (void)report_attached();
        return std::move(frame->descriptor);
    }
}

Result<void> Orders::attach(Fd socket, StateClient& state, Patience patience) {
    waited_ = false;
    if (const auto owed = state.attach(std::move(socket), patience); !owed)
        spdlog::error("what is owed to vtpmmgrd could not be stored: {}", owed.error().context);
    return report_attached();
}

Result<void> Orders::report_attached() {
    wire::proto::Report report;
    report.mutable_attached();
    return doorman_.send(report);
}

Result<void> Orders::report_failure(const Error& error) {
    wire::proto::Report report;
    *report.mutable_failure() = wire::to_message(error);
    return doorman_.send(report);
}

}  // namespace vtpm::engine_program
