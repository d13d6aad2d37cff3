#include "socket_service.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "failed_tpm.h"
#include "suspended_state.h"
#include "tpm_start.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm_engine {
namespace {

using engine_program::FailedTpm;
using wire::proto::Order;
using wire::proto::Report;

// How long one command waits for a manager that is being restarted.
constexpr std::chrono::milliseconds channel_patience{1500};
// And how long an order for what a manager that is back takes of what is owed.
constexpr std::chrono::milliseconds attach_patience{1500};
// How long an order waits for a manager that hangs: less than vtpm-swtpm waits for the order.
constexpr std::chrono::milliseconds commit_patience{20'000};
constexpr std::chrono::milliseconds power_off_patience{8000};
constexpr std::uint32_t tpm_fail = 0x09;

}  // namespace

SocketService::SocketService(tpm::Version version, CancelBell& bell,
                             engine_program::CancelWatcher& watcher, wire::Channel& doorman,
                             engine_program::StateClient& state)
    : version_(version),
      bell_(bell),
      watcher_(watcher),
      doorman_(doorman),
      orders_(doorman),
      state_(state) {
    state_.on_loss([this] { return await_channel(); });
    answer_with(std::make_unique<FailedTpm>(version, tpm::Refusal::no_power), {});
}

Result<void> SocketService::run() {
    while (!ended_)
        VTPM_CHECK(orders_.put_off() ? obey() : wait());
    return {};
}

// Orders come first: QEMU sends what they stand for before the command that they are for.
Result<void> SocketService::wait() {
    std::array<pollfd, 3> wanted = {pollfd{doorman_.fd(), POLLIN, 0},
                                    pollfd{data_ ? data_->fd() : -1, POLLIN, 0},
                                    pollfd{bell_.fd(), POLLIN, 0}};
    int milliseconds = -1;
    if (data_ && data_->deadline()) {
        const auto left = *data_->deadline() - DataChannel::Clock::now();
        milliseconds = std::max(
            0, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count()));
    }
    const int ready = ::poll(wanted.data(), wanted.size(), milliseconds);
    if (ready < 0)
        return errno == EINTR ? Result<void>() : fail_errno("poll", errno);
    if (wanted[0].revents != 0)
        return obey();
    if (wanted[1].revents != 0)
        return serve();
    if (wanted[2].revents != 0) {
        (void)bell_.consume();
        bell_.forget();
    }
    if (ready == 0 && data_ && !data_->on_time(*server_))
        return data_ended();
    return {};
}

// A bell that rings while a command waits to be read is for that one.
Result<void> SocketService::serve() {
    const auto before = server_->commands();
    const bool goes_on = data_->on_readable(*server_, locality_);
    if (server_->commands() != before)
        bell_.forget();
    return goes_on ? Result<void>() : data_ended();
}

Result<void> SocketService::data_ended() {
    data_.reset();
    Report report;
    report.mutable_data_closed();
    return doorman_.send(report);
}

Result<void> SocketService::obey() {
    VTPM_TRY(auto frame, orders_.next());
    VTPM_TRY(const auto order, wire::parse<Order>(frame));
    switch (order.body_case()) {
        case Order::kPowerOn:
            return power_on(order.power_on());
        case Order::kDataChannel:
            data_.reset();
            if (frame.descriptor.valid())
                data_.emplace(std::move(frame.descriptor));
            return answer(0);
        case Order::kSuspend:
            return suspend(order.suspend());
        case Order::kPowerOff: {
            Report done;
            done.mutable_powered_off();
            return power_off(done);
        }
        case Order::kAttach:
            return orders_.attach(std::move(frame.descriptor), state_, attach_patience);
        default:
            return obey_platform(order, frame.payload.view());
    }
}

Result<void> SocketService::obey_platform(const Order& order, ByteView payload) {
    switch (order.body_case()) {
        case Order::kSetLocality:
            locality_ = static_cast<std::uint8_t>(order.set_locality().locality() & 0xffU);
            return answer(0);
        case Order::kHash: {
            if (platform_ == nullptr)
                return answer(tpm_fail);
            using Sequence = wire::proto::HashSequence;
            switch (order.hash().step()) {
                case Sequence::START:
                    return answer_lasting(platform_->hash_start());
                case Sequence::DATA:
                    return answer_lasting(platform_->hash_data(payload));
                default:
                    return answer_lasting(platform_->hash_end());
            }
        }
        case Order::kEstablished: {
            if (platform_ == nullptr)
                return answer(tpm_fail);
            bool value = false;
            const auto& wish = order.established();
            if (wish.reset())
                return answer_lasting(platform_->reset_established(
                    static_cast<std::uint8_t>(wish.locality() & 0xffU)));
            const auto result = platform_->established(value);
            return answer(result, value);
        }
        case Order::kInfo: {
            const auto json = engine::LibtpmsEngine::info(version_, order.info().flags());
            return answer(json.empty() ? tpm_fail : 0, false, as_bytes(json));
        }
        default:
            return fail(Errc::malformed, "an order of no known kind");
    }
}

Result<void> SocketService::power_on(const wire::proto::PowerOn& order) {
    if (std::exchange(powered_, true))
        return fail(Errc::malformed, "a second PowerOn: an engine has one life");
    bool told = false;
    auto started = order.failed() ? fail(Errc::unavailable, NextAction::refuse, "started as failed")
                                  : start(order, told);
    if (!started) {
        platform_ = nullptr;
        server_.reset();
        answer_with(std::make_unique<FailedTpm>(version_), {});
    }
    if (told) {
        if (!started)
            spdlog::error("the TPM has failed: {}", started.error().context);
        return {};
    }
    if (!started)
        return orders_.report_failure(started.error());
    Report report;
    *report.mutable_ready() = *started;
    return doorman_.send(report);
}

// A TPM 1.2 tests itself by making an RSA key, which takes up to a second. The machine starts
// meanwhile; if libtpms does not take the state, its TPM has failed until the next INIT.
Result<wire::proto::Ready> SocketService::start(const wire::proto::PowerOn& order, bool& told) {
    auto tpm = std::make_unique<engine::LibtpmsEngine>();
    std::function<Result<void>()> tell;
    if (order.early() && !order.resume()) {
        tell = [&]() -> Result<void> {
            Report report;
            report.mutable_ready();
            told = true;
            return doorman_.send(report);
        };
    }
    VTPM_TRY(auto started,
             engine_program::start_tpm(*tpm, state_, version_, order, SecretBytes(), tell));
    platform_ = tpm.get();
    answer_with(std::move(tpm), std::move(started.policy));
    return started.ready;
}

void SocketService::answer_with(std::unique_ptr<engine::Engine> tpm, tpm::CommandPolicy policy) {
    auto server = std::make_unique<engine_program::CommandServer>(version_, std::move(policy), *tpm,
                                                                  state_, watcher_);
    server_ = std::move(server);
    tpm_ = std::move(tpm);
}

// In the middle of a command: the front brings the channel when the manager is there again. Any
// other order has to wait for the command's end.
std::optional<Fd> SocketService::await_channel() {
    if (ended_ || suspending_)
        return std::nullopt;
    return orders_.await_channel(channel_patience, [](const Order&) { return false; });
}

// A TPM that could not be put by goes on as it is. Then what was to be its state in the vault must
// not get there with a later commit: it would be a past to which the TPM can be brought back.
Result<void> SocketService::suspend(const wire::proto::Suspend& order) {
    Report report;
    if (order.if_unused() && (measured_ || server_->commands() != 0)) {
        report.mutable_suspended()->set_off(true);
        return power_off(report);
    }
    auto state = tpm_->volatile_state();
    if (!state)
        return orders_.report_failure(state.error());
    auto changes = tpm_->take_changes();
    changes.push_back(engine_program::suspended_state(order.life(), *state));
    suspending_ = true;
    const auto committed = state_.commit(std::move(changes), commit_patience);
    suspending_ = false;
    if (!committed) {
        state_.owe({engine::StateKind::volatile_state, std::nullopt});
        return orders_.report_failure(committed.error());
    }
    ended_ = true;
    report.mutable_suspended();
    return doorman_.send(report);
}

Result<void> SocketService::power_off(const Report& done) {
    tpm_->power_off();
    const auto committed = state_.commit(tpm_->take_changes(), power_off_patience);
    ended_ = true;
    return committed ? doorman_.send(done) : orders_.report_failure(committed.error());
}

// What a platform order changed for good is on the disk before it is acknowledged.
Result<void> SocketService::answer_lasting(std::uint32_t result) {
    measured_ = true;
    auto changes = tpm_->take_changes();
    if (changes.empty())
        return answer(result);
    if (const auto committed = state_.commit(std::move(changes), commit_patience); !committed) {
        spdlog::error("not stored: {}", committed.error().context);
        return answer(tpm_fail);
    }
    return answer(result);
}

Result<void> SocketService::answer(std::uint32_t result, bool established, ByteView payload) {
    Report report;
    report.mutable_answer()->set_result(result);
    report.mutable_answer()->set_established(established);
    return doorman_.send(report, payload);
}

}  // namespace vtpm::swtpm_engine
