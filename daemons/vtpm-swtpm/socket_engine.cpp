#include "socket_engine.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vtpm/wire/failure.h"

namespace vtpm::swtpm {
namespace {

using wire::proto::Order;
using wire::proto::Report;

// Less than a service manager waits before it kills us: the command that runs is cancelled.
constexpr std::chrono::milliseconds power_off_time{10'000};
// The engine loads, and commits; it waits a minute for each.
constexpr std::chrono::milliseconds power_on_time{125'000};
constexpr std::chrono::milliseconds idle_interval{50};
constexpr int max_reports_between = 8;

}  // namespace

Result<std::unique_ptr<SocketEngine>> SocketEngine::start(const std::string& program,
                                                          tpm::Version version, std::uint32_t uid,
                                                          Fd log) {
    VTPM_TRY(auto cancels, SharedCount::create());
    Fd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!bell.valid())
        return fail_errno("eventfd", errno);
    // The manager's channel comes when the instance is held, which is not before power is wanted.
    VTPM_TRY(auto nobody, stream_socket_pair());
    const std::vector<std::string> arguments = {"--uid", std::to_string(uid), "--tpm",
                                                std::string(tpm::to_string(version))};
    VTPM_TRY(auto process, doorman::EngineProcess::start(program, arguments,
                                                         std::move(nobody.first), std::move(log)));
    std::unique_ptr<SocketEngine> engine(
        new SocketEngine(std::move(process), std::move(cancels), std::move(bell)));
    Order order;
    order.mutable_cancel_bell();
    for (const int descriptor : {engine->cancels_.fd(), engine->bell_.get()})
        VTPM_CHECK(engine->process_.channel().send(order, {}, descriptor));
    return engine;
}

Result<void> SocketEngine::give_data(int socket) {
    Order order;
    order.mutable_data_channel();
    VTPM_TRY(const auto frame, exchange(order, Report::kAnswer, {}, socket));
    data_closed_ = false;  // if so, it was the one before
    return {};
}

Result<void> SocketEngine::power_on(const wire::proto::PowerOn& power_on) {
    Order order;
    *order.mutable_power_on() = power_on;
    VTPM_TRY(const auto frame, exchange(order, Report::kReady, {}, -1, power_on_time));
    return {};
}

Result<void> SocketEngine::power_off() {
    cancel();
    Order order;
    order.mutable_power_off();
    VTPM_TRY(const auto frame, exchange(order, Report::kPoweredOff, {}, -1, power_off_time));
    return {};
}

Result<bool> SocketEngine::suspend(std::uint64_t label, bool if_unused) {
    Order order;
    order.mutable_suspend()->set_life(label);
    order.mutable_suspend()->set_if_unused(if_unused);
    VTPM_TRY(const auto frame, exchange(order, Report::kSuspended));
    VTPM_TRY(const auto report, wire::parse<Report>(frame));
    return !report.suspended().off();
}

void SocketEngine::cancel() {
    cancels_.add();
    const std::uint64_t one = 1;
    (void)!::write(bell_.get(), &one, sizeof(one));
}

Result<SocketEngine::Answer> SocketEngine::ask(const Order& order, ByteView payload) {
    VTPM_TRY(auto frame, exchange(order, Report::kAnswer, payload));
    VTPM_TRY(const auto report, wire::parse<Report>(frame));
    return Answer{report.answer().result(), report.answer().established(),
                  std::move(frame.payload)};
}

Result<void> SocketEngine::on_report() {
    VTPM_TRY(const auto frame, process_.channel().receive(longest_patience));
    VTPM_TRY(const auto report, wire::parse<Report>(frame));
    if (report.has_attached() && process_.take_attached())
        return {};
    if (!report.has_data_closed())
        return fail(Errc::malformed, "the engine reported out of turn");
    data_closed_ = true;
    return {};
}

// The engine may need a channel to the manager to do what it was told.
std::chrono::nanoseconds SocketEngine::wait_until(std::chrono::steady_clock::time_point end) const {
    pollfd wanted{process_.fd(), POLLIN, 0};
    auto left = end - std::chrono::steady_clock::now();
    while (left > left.zero() && ::poll(&wanted, 1, static_cast<int>(idle_interval.count())) <= 0) {
        if (idle_)
            idle_();
        left = end - std::chrono::steady_clock::now();
    }
    return std::max(left, left.zero());
}

Result<wire::Frame> SocketEngine::exchange(const Order& order, BodyCase expected, ByteView payload,
                                           int descriptor, std::chrono::milliseconds patience) {
    in_step_ = false;
    VTPM_CHECK(process_.channel().send(order, payload, descriptor));
    const auto end = std::chrono::steady_clock::now() + patience;
    for (int i = 0; i < max_reports_between; ++i) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(wait_until(end));
        VTPM_TRY(auto frame, process_.channel().receive(left));
        VTPM_TRY(const auto report, wire::parse<Report>(frame));
        in_step_ = report.body_case() == expected || report.has_failure();
        if (report.has_failure())
            return tl::unexpected<Error>(wire::to_error(report.failure()));
        if (in_step_)
            return frame;
        if (report.has_data_closed())
            data_closed_ = true;
        else if (!report.has_attached() || !process_.take_attached())
            break;
    }
    return fail(Errc::malformed, "the engine reported something else than it was asked for");
}

}  // namespace vtpm::swtpm
