#include "doorman.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vtpm/base/log.h"

namespace vtpm::doorman {
namespace {

Result<Fd> termination_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd.valid())
        return fail_errno("signalfd", errno);
    return fd;
}

}  // namespace

Doorman::Doorman(xen::Store& store, xen::BackDevice& device, GuestTpm& tpm, ManagerClient& manager,
                 GuestDevice guest, const PowerRecord& record, xen::Domains& domains,
                 const LifeRecord& life)
    : store_(store),
      device_(device),
      tpm_(tpm),
      manager_(manager),
      guest_(guest),
      record_(record),
      domains_(domains),
      life_(life) {}

Result<void> Doorman::run() {
    VTPM_TRY(signals_, termination_signals());
    const auto started = device_.start();
    if (!started && started.error().code == Errc::not_found) {
        spdlog::info("device {} is gone already", guest_.to_string());
        VTPM_CHECK(clear_away());
        ::sd_notify(0, "READY=1");  // else systemd takes the early end for a failure
        return {};
    }
    give_up_ = Clock::now() + patience;
    if (started) {
        VTPM_TRY(const bool inherited, inherit(Clock::now()));
        if (!inherited)
            VTPM_CHECK(try_open(Clock::now()));
    } else if (started.error().code == Errc::malformed) {
        VTPM_CHECK(refuse(started.error()));
    } else {
        return started;
    }
    while (!device_.finished() && !stopping_)
        VTPM_CHECK(wait());
    ::sd_notify(0, "READY=1");
    return {};
}

// One that is not readable now is for the next vtpmd to read; nothing is given up for that.
Result<std::optional<Powered>> Doorman::left_to_us() const {
    const auto record = record_.read();
    if (record)
        return *record;
    const auto code = record.error().code;
    if (code == Errc::not_found || code == Errc::corrupt || code == Errc::too_large)
        return std::nullopt;
    return tl::make_unexpected(record.error());
}

// The engine of a vtpmd that has died is at work all the while: no manager has to be asked first.
// If this cannot be found out now, the next vtpmd will.
Result<bool> Doorman::inherit(Clock::time_point now) {
    VTPM_TRY(const auto record, left_to_us());
    if (!record || record->instance != device_.uuid() || device_.was_new()) {
        tpm_.disinherit();
        return false;
    }
    VTPM_TRY(const auto life, domains_.look(guest_.domain));
    if (!tpm_.inherit(*record, life))
        return false;
    waiting_for_instance_ = false;
    if (tpm_.ring())
        device_.go_on(*tpm_.ring());
    VTPM_CHECK(device_.announce(now, {}));
    ::sd_notify(0, "READY=1");
    return true;
}

// The device went while no vtpmd was there. How the domain ended may not be known any more: then
// its TPM is not suspended.
Result<void> Doorman::clear_away() {
    VTPM_TRY(const auto record, left_to_us());
    if (!record) {
        tpm_.disinherit();
        return {};
    }
    VTPM_TRY(const auto life, domains_.look(guest_.domain));
    (void)tpm_.inherit(*record, life);
    tpm_.power_off(life);
    tpm_.gone();
    return {};
}

// What may get better by itself is waited for; a guest that had a TPM already is waited for without
// end, since refusing it would leave its commands unanswered.
Result<void> Doorman::try_open(Clock::time_point now) {
    using std::chrono::milliseconds;
    const bool power_lost = record_.exists(device_.uuid()) || device_.was_connected();
    const auto left = std::chrono::ceil<milliseconds>(give_up_ - now);
    const auto instance =
        manager_.open(device_.uuid(), guest_, std::max<milliseconds>(left, milliseconds(1000)));
    if (!instance) {
        const auto& error = instance.error();
        const bool may_change =
            error.next == NextAction::retry || error.next == NextAction::retry_later;
        if (!may_change || (now >= give_up_ && !power_lost))
            return refuse(error);
        if (!std::exchange(told_to_wait_, true)) {
            spdlog::info("domain {} waits for its TPM: {}", guest_.domain, error.context);
        }
        if (now >= give_up_)
            ::sd_notify(0, "READY=1\nSTATUS=waiting for vtpmmgrd");  // systemd must not end this
        next_try_ = now + (now < give_up_ ? retry_interval : slow_retry_interval);
        return {};
    }
    waiting_for_instance_ = false;
    return serve(*instance, power_lost, now);
}

// Whether the TPM begins anew or goes on where it was suspended has to be known now: the domain
// does not run before it has been told that the device is there.
Result<void> Doorman::serve(const OpenedInstance& instance, bool power_lost,
                            Clock::time_point now) {
    if (power_lost) {
        // A device on which nothing was done is another domain's, of the same number.
        auto record = record_.read();
        if (record && (device_.was_new() || record->instance != device_.uuid()))
            record->label = 0;
        tpm_.opened_again(device_.uuid(), instance, record);
    } else {
        const auto origin =
            xen::origin_of(store_, domains_, guest_.domain, device_.was_new(), life_.name());
        if (!origin)
            return refuse(origin.error());
        tpm_.opened(device_.uuid(), instance, origin->beginning, name_life(*origin));
    }
    VTPM_CHECK(device_.announce(now, to_string(instance.tpm)));
    ::sd_notify(0, "READY=1");
    return {};
}

// A guest whose life has no name can live, but not be suspended together with its TPM.
std::optional<std::uint32_t> Doorman::name_life(const xen::DomainOrigin& origin) {
    if (origin.beginning == xen::Beginning::restored)
        return origin.incarnation;
    const auto there = life_.name();
    if (origin.beginning == xen::Beginning::attached || !device_.was_new())
        return there == origin.incarnation ? there : std::nullopt;
    const auto name = life_.make();
    if (!name) {
        spdlog::warn("domain {}: {}", guest_.domain, name.error().context);
        return std::nullopt;
    }
    if (const auto named = domains_.set_incarnation(guest_.domain, *name); !named) {
        spdlog::warn("domain {}: {}", guest_.domain, named.error().context);
        return std::nullopt;
    }
    return *name;
}

// The guest is not to wait without knowing why: journal, unit status and xenstore say the same.
Result<void> Doorman::refuse(const Error& error) {
    waiting_for_instance_ = false;
    spdlog::error("domain {} gets no TPM ({}): {}", guest_.domain, to_string(error.code),
                  error.context);
    ::sd_notifyf(0, "READY=1\nSTATUS=refused: %s", error.context.c_str());
    return device_.refuse(error.context);
}

Result<void> Doorman::wait() {
    const auto before = Clock::now();
    std::array<pollfd, 5> wanted = {
        pollfd{signals_.get(), POLLIN, 0}, pollfd{store_.fd(), POLLIN, 0},
        pollfd{tpm_.engine_fd(), POLLIN, 0}, pollfd{manager_.fd(), POLLIN, 0},
        pollfd{tpm_.log_fd(before), POLLIN, 0}};
    if (::poll(wanted.data(), wanted.size(), milliseconds_to_wait(before)) < 0 && errno != EINTR) {
        return fail_errno("poll", errno);
    }
    if (wanted[0].revents != 0) {
        on_signal();
        return {};
    }
    const auto now = Clock::now();
    tpm_.on_log(now);
    if (wanted[2].revents != 0)
        tpm_.on_engine();
    if (wanted[3].revents != 0)
        tpm_.on_manager();
    tpm_.tick(now);
    if (waiting_for_instance_ && now >= next_try_)
        VTPM_CHECK(try_open(now));
    return update(Clock::now());
}

// A hiccup of xenstore or of the hypervisor must not cost the guest its TPM: BackDevice asks to be
// called again by its deadline.
Result<void> Doorman::update(Clock::time_point now) {
    auto updated = device_.update(now);
    tpm_.seen(device_.life());
    if (updated) {
        failed_updates_ = 0;
        return {};
    }
    if (failed_updates_ == 0)
        spdlog::error("{}; trying again", updated.error().context);
    if (++failed_updates_ >= max_failed_updates)
        return updated;
    return {};
}

int Doorman::milliseconds_to_wait(Clock::time_point now) const {
    std::optional<Clock::time_point> next = device_.next_deadline();
    const auto consider = [&](Clock::time_point when) {
        next = std::min(next.value_or(when), when);
    };
    if (waiting_for_instance_)
        consider(next_try_);
    if (const auto deadline = tpm_.next_deadline(now))
        consider(*deadline);
    if (!next)
        return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - now).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

// Stopped by the admin or the host's shutdown, not by the guest: the guest's xenstore nodes are
// left as they are, and the next vtpmd goes on with its TPM.
void Doorman::on_signal() {
    signalfd_siginfo signal{};
    if (::read(signals_.get(), &signal, sizeof(signal)) != sizeof(signal))
        return;
    spdlog::warn("stopped while domain {} still has its TPM", guest_.domain);
    ::sd_notify(0, "STOPPING=1");
    left_engine_ = !tpm_.stop(device_.life());
    stopping_ = true;
}

}  // namespace vtpm::doorman
