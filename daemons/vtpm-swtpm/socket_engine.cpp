#include "socket_engine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/wire/failure.h"

namespace vtpm::swtpm {
namespace {

using wire::proto::Order;
using wire::proto::Report;

// An order waits for the command that runs; the longest makes an RSA key.
constexpr std::chrono::seconds answer_time{30};
constexpr int max_reports_between = 8;

}  // namespace

Result<std::unique_ptr<SocketEngine>> SocketEngine::start(const std::string& program,
                                                          tpm::Version version, std::uint32_t uid,
                                                          Fd log) {
    Fd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!bell.valid())
        return fail_errno("eventfd", errno);
    // The manager's channel comes when the instance is held, which is not before power is wanted.
    VTPM_TRY(auto nobody, stream_socket_pair());
    const std::vector<std::string> arguments = {"--uid", std::to_string(uid), "--tpm",
                                                std::string(tpm::to_string(version))};
    VTPM_TRY(auto process, doorman::EngineProcess::start(program, arguments,
                                                         std::move(nobody.first), std::move(log)));
    std::unique_ptr<SocketEngine> engine(new SocketEngine(std::move(process), std::move(bell)));
    Order order;
    order.mutable_cancel_bell();
    VTPM_CHECK(engine->process_.channel().send(order, {}, engine->bell_.get()));
    return engine;
}

Result<void> SocketEngine::give_data(int socket) {
    Order order;
    order.mutable_data_channel();
    VTPM_TRY(const auto frame, exchange(order, Report::kAnswer, {}, socket));
    return {};
}

Result<void> SocketEngine::give_manager(Fd channel) {
    Order order;
    order.mutable_attach();
    VTPM_TRY(const auto frame, exchange(order, Report::kAttached, {}, channel.get()));
    return {};
}

Result<void> SocketEngine::power_on(const wire::proto::PowerOn& power_on) {
    Order order;
    *order.mutable_power_on() = power_on;
    VTPM_TRY(const auto frame, exchange(order, Report::kReady));
    return {};
}

Result<void> SocketEngine::power_off() {
    cancel();
    Order order;
    order.mutable_power_off();
    VTPM_TRY(const auto frame, exchange(order, Report::kPoweredOff));
    return {};
}

Result<void> SocketEngine::suspend(std::uint64_t label) {
    Order order;
    order.mutable_suspend()->set_life(label);
    VTPM_TRY(const auto frame, exchange(order, Report::kSuspended));
    return {};
}

void SocketEngine::cancel() const {
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
    VTPM_TRY(const auto frame, process_.channel().receive(answer_time));
    VTPM_TRY(const auto report, wire::parse<Report>(frame));
    if (report.has_attached())
        return {};
    if (!report.has_data_closed())
        return fail(Errc::malformed, "the engine reported out of turn");
    data_closed_ = true;
    return {};
}

Result<wire::Frame> SocketEngine::exchange(const Order& order, BodyCase expected, ByteView payload,
                                           int descriptor) {
    VTPM_CHECK(process_.channel().send(order, payload, descriptor));
    const auto end = std::chrono::steady_clock::now() + answer_time;
    for (int i = 0; i < max_reports_between; ++i) {
        const auto left = end - std::chrono::steady_clock::now();
        VTPM_TRY(auto frame,
                 process_.channel().receive(std::chrono::ceil<std::chrono::milliseconds>(left)));
        VTPM_TRY(const auto report, wire::parse<Report>(frame));
        if (report.body_case() == expected)
            return frame;
        if (report.has_failure())
            return tl::unexpected<Error>(wire::to_error(report.failure()));
        if (report.has_data_closed())
            data_closed_ = true;
        else if (!report.has_attached())
            break;
    }
    return fail(Errc::malformed, "the engine reported something else than it was asked for");
}

}  // namespace vtpm::swtpm
