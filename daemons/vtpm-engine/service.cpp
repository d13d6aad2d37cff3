#include "service.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "failed_tpm.h"
#include "handed_over_state.h"
#include "suspended_state.h"
#include "tpm_start.h"
#include "vtpm/base/log.h"
#include "vtpm/engine/libtpms_engine.h"

namespace vtpm::engine_program {
namespace {

using wire::proto::Order;
using wire::proto::Report;

// A guest that never pauses must not keep vtpmd from being heard.
constexpr std::chrono::milliseconds ring_turn{50};
// How long one command waits for a manager that is being restarted. A guest's driver gives a short
// command of TPM 1.2 2 s, and one of TPM 2.0, which xen-tpmfront does not know, two minutes.
constexpr std::chrono::milliseconds patience_of(tpm::Version version) {
    return std::chrono::milliseconds(version == tpm::Version::v1_2 ? 1500 : 30'000);
}
// And how long a TPM that begins waits: until vtpmd wants something else. What it began from may be
// used up in the vault, if the manager died before it said so; the next engine would not find it.
constexpr std::chrono::milliseconds beginning_patience = std::chrono::hours(24);
// How long nobody is served because a manager that is back takes what is owed.
constexpr std::chrono::milliseconds attach_patience{1500};
// vtpmd waits for an order's answer for 4.5 s, and an Attach may come right before it.
constexpr std::chrono::milliseconds order_patience{2500};

// Of a commit: the TPM is whole, and so may its state in the vault be.
bool may_succeed_yet(const Error& error) {
    return error.next == NextAction::retry || error.next == NextAction::retry_later ||
           error.code == Errc::locked || error.code == Errc::not_approved ||
           error.code == Errc::latched;
}

Error worth_retrying(Error error) {
    error.next = NextAction::retry;
    return error;
}

Error no_manager() {
    return {Errc::unavailable, NextAction::retry, "vtpmmgrd is away, and a command waits for it"};
}

}  // namespace

Service::Service(Ring ring, wire::Channel& doorman, StateClient& state)
    : ring_(ring), doorman_(doorman), orders_(doorman), state_(state) {
    state_.on_loss([this] { return await_channel(); });
}

Result<void> Service::run() {
    VTPM_CHECK(power_on());
    // A command may have been on the page before the event channel was bound.
    if (!ended_)
        VTPM_CHECK(serve_ring());
    while (!ended_)
        VTPM_CHECK(orders_.put_off() ? obey() : wait());
    return {};
}

Result<void> Service::power_on() {
    VTPM_TRY(auto frame, orders_.next());
    VTPM_TRY(const auto order, wire::parse<Order>(frame));
    // Its vtpmd has died before it could order it. We are of no use to the next one.
    if (order.has_describe())
        return describe(order.describe());
    if (!order.has_power_on())
        return fail(Errc::malformed, "the first order must be PowerOn");
    VTPM_TRY(const auto version, tpm::version_from_number(order.power_on().tpm()));
    version_ = version;
    if (order.power_on().failed()) {
        fail_tpm(version);
        return orders_.report_failure(
            Error{Errc::unavailable, NextAction::refuse, "started as failed"});
    }
    const auto started = start(version, order.power_on(), std::move(frame.payload));
    // It has answered nobody: vtpmd begins it again with another engine, once the manager is there.
    // Should the manager that has gone have stored what this one began with, the next one says so.
    if (!started && state_.lost() && started.error().code != Errc::timeout)
        return tl::make_unexpected(started.error());
    if (!started) {
        fail_tpm(version);
        return orders_.report_failure(started.error());
    }
    ready_ = true;
    Report report;
    *report.mutable_ready() = *started;
    return doorman_.send(report);
}

Result<void> Service::describe(const wire::proto::Describe& question) {
    Report report;
    auto& standing = *report.mutable_standing();
    // One that waits for its manager to begin is as one that was ordered nothing.
    standing.set_powered(server_ != nullptr);
    standing.set_ready(ready_);
    standing.set_quiesced(!serving_);
    standing.set_held(held_);
    standing.set_question(question.question());
    ended_ = tpm_ == nullptr;
    return doorman_.send(report);
}

Result<wire::proto::Ready> Service::start(tpm::Version version, const wire::proto::PowerOn& order,
                                          const SecretBytes& handed_over) {
    tpm_ = std::make_unique<engine::LibtpmsEngine>();
    VTPM_TRY(auto started, start_tpm(*tpm_, state_, version, order, handed_over));
    server_ = std::make_unique<CommandServer>(version, std::move(started.policy), *tpm_, state_,
                                              ring_.watcher);
    return started.ready;
}

void Service::fail_tpm(tpm::Version version) {
    server_.reset();
    tpm_ = std::make_unique<FailedTpm>(version);
    server_ = std::make_unique<CommandServer>(version, tpm::CommandPolicy(), *tpm_, state_,
                                              ring_.watcher);
}

Result<void> Service::wait() {
    const auto now = std::chrono::steady_clock::now();
    const bool look = may_serve() && look_again_;
    const bool deaf = now < empty_events_.deaf_until();
    std::array<pollfd, 2> wanted = {
        pollfd{doorman_.fd(), POLLIN, 0},
        pollfd{may_serve() && !deaf ? ring_.events.fd() : -1, POLLIN, 0}};
    int milliseconds = look ? 0 : -1;
    if (may_serve() && deaf && !look) {
        const auto left = empty_events_.deaf_until() - now;
        milliseconds = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
    }
    if (::poll(wanted.data(), wanted.size(), milliseconds) < 0) {
        if (errno == EINTR)
            return {};
        return fail_errno("poll", errno);
    }
    const bool event = wanted[1].revents != 0;
    if (event)
        VTPM_CHECK(ring_.events.consume());
    if (event || look) {
        VTPM_TRY(const bool command, serve_ring());
        if (event)
            empty_events_.taken(command, std::chrono::steady_clock::now());
    }
    return order_waits() ? obey() : Result<void>();
}

// Asked anew after each turn at the ring: a command may have taken an order, in await_channel().
bool Service::order_waits() const {
    pollfd wanted{doorman_.fd(), POLLIN, 0};
    return orders_.put_off() || ::poll(&wanted, 1, 0) > 0;
}

// Commands in a row for as long as a turn lasts. If it ends with the guest not done, the next
// wait() only looks: the event that announced the next command may have been taken already.
Result<bool> Service::serve_ring() {
    const auto end = std::chrono::steady_clock::now() + ring_turn;
    look_again_ = false;
    for (bool any = false;; any = true) {
        VTPM_TRY(const auto served, ring_.ring.serve(*server_));
        if (served == xen::Served::nothing)
            return any;
        if (std::chrono::steady_clock::now() < end)
            continue;
        look_again_ = true;
        return true;
    }
}

Result<void> Service::obey() {
    VTPM_TRY(auto frame, orders_.next());
    VTPM_TRY(const auto order, wire::parse<Order>(frame));
    switch (order.body_case()) {
        case Order::kQuiesce: {
            serving_ = false;
            ring_.ring.close();
            Report report;
            report.mutable_quiesced()->set_commands(server_->commands());
            return doorman_.send(report);
        }
        case Order::kHandOver:
            return hand_over();
        case Order::kSuspend:
            return suspend(order.suspend().life());
        case Order::kPowerOff:
            return power_off();
        case Order::kAttach:
            return orders_.attach(std::move(frame.descriptor), state_, attach_patience);
        case Order::kDescribe:
            return describe(order.describe());
        case Order::kGoOn:
            held_ = false;
            look_again_ = true;
            return {};
        default:
            return fail(Errc::malformed, "an order of no known kind");
    }
}

// In the middle of a command. vtpmd brings the channel when the manager is there again. If it has
// died as well, or is to end together with the manager, the next one brings it: the command waits.
std::optional<Fd> Service::await_channel() {
    if (!may_serve())
        return std::nullopt;
    return orders_.await_channel(
        server_ ? patience_of(version_) : beginning_patience, [this](const Order& order) {
            return (order.has_describe() && describe(order.describe())) ||
                   (order.has_suspend() && orders_.report_failure(no_manager()));
        });
}

// The lasting state must be on the disk before the next engine loads it. Until it can be, the TPM
// stays here.
Result<void> Service::hand_over() {
    serving_ = false;
    auto state = tpm_->volatile_state();
    if (!state) {
        ended_ = true;
        return orders_.report_failure(state.error());
    }
    if (const auto committed = state_.commit(tpm_->take_changes(), order_patience); !committed) {
        ended_ = !may_succeed_yet(committed.error());
        return orders_.report_failure(ended_ ? committed.error()
                                             : worth_retrying(committed.error()));
    }
    ended_ = true;
    Report report;
    report.mutable_handed_over();
    return doorman_.send(report, handed_over_state(state_.sequence(), *state).view());
}

// If it cannot be, the TPM is as whole as before. But what nobody knows about may be in the vault:
// it moves on only once no vtpmd would ask for that.
Result<void> Service::suspend(std::uint64_t life) {
    // One that never began may not touch what lies there: it can be another save file's.
    if (!ready_)
        return orders_.report_failure(
            Error{Errc::unavailable, NextAction::refuse, "the TPM never began"});
    held_ = true;
    if (const auto done = put_by(life); !done) {
        state_.owe({engine::StateKind::volatile_state, std::nullopt});
        return orders_.report_failure(may_succeed_yet(done.error()) ? worth_retrying(done.error())
                                                                    : done.error());
    }
    ended_ = true;
    Report report;
    report.mutable_suspended();
    return doorman_.send(report);
}

Result<void> Service::put_by(std::uint64_t life) {
    VTPM_TRY(const auto state, tpm_->volatile_state());
    auto changes = tpm_->take_changes();
    changes.push_back(suspended_state(life, state));
    return state_.commit(std::move(changes), order_patience);
}

Result<void> Service::power_off() {
    serving_ = false;
    ended_ = true;
    tpm_->power_off();
    const auto committed = state_.commit(tpm_->take_changes());
    if (!committed)
        return orders_.report_failure(committed.error());
    Report report;
    report.mutable_powered_off();
    return doorman_.send(report);
}

}  // namespace vtpm::engine_program
