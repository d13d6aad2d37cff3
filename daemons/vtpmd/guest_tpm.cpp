#include "guest_tpm.h"

#include <poll.h>

#include <algorithm>
#include <thread>

#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::doorman {

GuestTpm::GuestTpm(GuestDevice guest, ManagerClient& manager, std::string engine_program,
                   PowerRecord record, LifeRecord life, DescriptorStore& store)
    : guest_(guest),
      manager_(manager),
      engine_program_(std::move(engine_program)),
      record_(std::move(record)),
      store_(store),
      life_record_(std::move(life)),
      log_("the engine of domain " + std::to_string(guest.domain)) {}

Result<void> GuestTpm::connect(const xen::RingAddress& ring) {
    if (engine_)
        VTPM_CHECK(take_over());
    VTPM_CHECK(start_engine(ring));
    ring_ = ring;
    fruitless_ = 0;
    return {};
}

// The quiesced engine gives up what it remembers. One that never was ready has nothing of its own,
// and one that says "later" is kept.
Result<void> GuestTpm::take_over() {
    if (ready_ && power_ == Power::on) {
        auto state = engine_->hand_over();
        note_words();
        if (!state && state.error().next == NextAction::retry) {
            spdlog::error(
                "instance {} ({}): the guest of domain {} waits until its TPM can go on "
                "in another engine: {}",
                uuid_.to_string(), instance_.name, guest_.domain,
                log::printable(state.error().context));
            // It goes into xenstore, for xl to show: not in the engine's words.
            return fail(Errc::unavailable, NextAction::retry,
                        "its TPM cannot go on in another engine yet; the journal of vtpmd has why");
        }
        if (state && !state->empty()) {
            volatile_state_ = std::move(*state);
            keep_memory();
            story_.set_why("the guest connected anew");
        } else if (ready_) {
            engine_lost(state ? "an empty hand-over" : log::printable(state.error().context));
        }
    } else if (power_ != Power::failed) {
        story_.set_why("the guest connected anew");
    }
    give_up_engine();
    ready_ = false;
    return {};
}

Result<void> GuestTpm::start_engine(const xen::RingAddress& ring) {
    // A running TPM without its memory would come up with its PCRs at zero.
    if (power_ == Power::on && volatile_state_.empty())
        lose_power("its state was lost");
    VTPM_TRY(auto channel, engine_channel());
    VTPM_TRY(auto log, log_.open());
    VTPM_TRY(auto engine, EngineProcess::start(engine_program_, guest_, ring, std::move(channel),
                                               std::move(log)));
    ready_ = uncertain_ = held_ = false;
    reported_failure_ = false;
    engine_.emplace(std::move(engine));
    if (auto noted = note_started(ring); !noted) {
        give_up_engine();
        return noted;
    }
    wire::proto::PowerOn order;
    order.set_tpm(static_cast<std::uint32_t>(instance_.tpm));
    order.set_failed(power_ == Power::failed);
    if (resume_ && power_ == Power::off) {
        order.set_resume(true);
        order.set_life(*resume_);
    }
    if (auto ordered = engine_->power_on(order, volatile_state_); !ordered) {
        give_up_engine();
        keep_memory();
        return ordered;
    }
    tell_of_engine();
    return {};
}

Result<Fd> GuestTpm::engine_channel() {
    auto channel = manager_.attach_engine();
    if (channel)
        return channel;
    // The manager may have been restarted since: its new self does not know our hold.
    manager_.close();
    if (manager_.open(uuid_, guest_))
        channel = manager_.attach_engine();
    if (channel || power_ != Power::failed)
        return channel;
    // A failed TPM keeps no state; its guest must be answered even without a manager.
    VTPM_TRY(auto nobody, stream_socket_pair());
    return std::move(nobody.first);
}

void GuestTpm::on_engine() {
    if (!engine_)
        return;
    const auto next = engine_->next_report();
    if (!next)
        return engine_died(next.error().context);
    if (!*next)
        return note_words();
    const auto& report = *next;
    if (report->has_ready() && !ready_ && power_ != Power::failed) {
        became_ready(report->ready());
    } else if (report->has_attached() && engine_->take_attached()) {
        spdlog::info("instance {} ({}): the TPM of domain {} has its manager again",
                     uuid_.to_string(), instance_.name, guest_.domain);
    } else if (report->has_failure() && !ready_ && !std::exchange(reported_failure_, true)) {
        not_started(report->failure());
    } else {
        engine_died("a report out of turn");
    }
}

// They may have come in while the engine was given an order: they count all the same.
void GuestTpm::note_words() {
    if (const auto standing = engine_->take_standing(); standing && uncertain_)
        settle(*standing);
    if (const auto ready = engine_->take_ready(); ready && !ready_ && power_ != Power::failed) {
        became_ready(*ready);
    }
}

void GuestTpm::became_ready(const wire::proto::Ready& ready) {
    const bool resumed = !volatile_state_.empty() || (resume_ && power_ == Power::off);
    forget_memory();
    power_ = Power::on;
    ready_ = true;
    crashes_ = 0;
    if (resumed)
        tell_of_handover();
    spdlog::info("instance {} ({}): TPM {} {} for domain {} in {} ms", uuid_.to_string(),
                 instance_.name, tpm::to_string(instance_.tpm),
                 ready.manufactured() ? "manufactured and started"
                 : resumed            ? "goes on"
                                      : "started",
                 guest_.domain, ready.start_microseconds() / 1000);
}

// The engine serves failure mode. Nothing is lost by that: the next connection may try again.
void GuestTpm::not_started(const wire::proto::Failure& failure) {
    if (power_ == Power::failed)
        return;
    tell_of_failure(log::printable(failure.context()));
    spdlog::error(
        "instance {} ({}): the TPM of domain {} could not be started and is in failure "
        "mode: {}",
        uuid_.to_string(), instance_.name, guest_.domain, log::printable(failure.context()));
}

void GuestTpm::give_up_engine() {
    engine_.reset();
    store_.drop(engine_name(powered_.engine));
    log_.finish(Clock::now());
}

// By itself, or by somebody's hand.
void GuestTpm::engine_died(const std::string& why) {
    engine_->drain();
    note_words();
    const std::string how = engine_->end();
    const bool crashed = engine_->was_killed();
    spdlog::error("instance {} ({}): the engine of domain {} is gone ({}; {})", uuid_.to_string(),
                  instance_.name, guest_.domain, how, log::printable(why));
    story_.set_why("the engine before it died");
    fruitless_ = ready_ || reported_failure_ ? 0 : fruitless_ + 1;
    if (std::exchange(ready_, false)) {
        engine_lost("its engine died");
    } else if (crashed && power_ != Power::failed && ++crashes_ == max_crashes) {
        fail_until_power_off("no engine gets it started, " + std::to_string(crashes_) +
                             " have died of it one after another");
        fruitless_ = 0;
    } else {
        keep_memory();
    }
    give_up_engine();
    const auto now = Clock::now();
    if (ring_)
        retry_at_ = next_engine_at(now);
    deaths_.take(now);
}

GuestTpm::Clock::time_point GuestTpm::next_engine_at(Clock::time_point now) const {
    if (fruitless_ > 0)
        return now + retry_interval * (1U << std::min(fruitless_ - 1, max_doublings));
    return power_ == Power::failed ? std::max(now, deaths_.allowed_from()) : now + retry_interval;
}

void GuestTpm::lose_power(const std::string& why) {
    fail_until_power_off(why + ", and with it the PCRs of this boot");
    story_.set_why(why);
}

void GuestTpm::fail_until_power_off(const std::string& why) {
    power_ = Power::failed;
    story_.set_why(why);
    forget_memory();
    spdlog::error(
        "instance {} ({}): {}; domain {} gets a TPM in failure mode until it is shut down and "
        "started again",
        uuid_.to_string(), instance_.name, why, guest_.domain);
}

std::optional<GuestTpm::Clock::time_point> GuestTpm::next_deadline(Clock::time_point now) const {
    auto next = retry_at_;
    if (log_.is_open() && log_.fd(now) < 0)
        next = std::min(next.value_or(log_.readable_from()), log_.readable_from());
    return next;
}

void GuestTpm::tick(Clock::time_point now) {
    if (!retry_at_ || now < *retry_at_)
        return;
    retry_at_.reset();
    if (engine_ && held_)
        revoke_label();
    if (manager_.fd() < 0) {
        if (const auto held = hold_again(); !held)
            retry_at_ = now + manager_interval;
    }
    if (engine_ || !ring_)
        return;
    if (const auto started = start_engine(*ring_); !started) {
        spdlog::error("domain {}: its engine did not start: {}", guest_.domain,
                      log::printable(started.error().context));
        retry_at_ = now + retry_interval;
    }
}

// vtpmmgrd is there again, or we are new: the hold on the instance, and for the engine a channel to
// it. Also if it has one, since the vtpmd before us may have died while it was given another.
Result<void> GuestTpm::hold_again() {
    const auto opened = manager_.open(uuid_, guest_, hold_patience);
    if (!opened && opened.error().code == Errc::in_use && ++taken_by_other_ == max_taken_by_other) {
        // Two engines of one instance must not both go on.
        if (engine_ && power_ == Power::on) {
            give_up_engine();
            ready_ = false;
            lose_power("another guest has taken its instance meanwhile");
        }
    }
    VTPM_CHECK(opened);
    instance_ = *opened;
    taken_by_other_ = 0;
    spdlog::info("instance {} ({}): held at vtpmmgrd again", uuid_.to_string(), instance_.name);
    if (!engine_)
        return {};
    auto channel = manager_.attach_engine();
    if (!channel) {
        manager_.close();
        return tl::make_unexpected(channel.error());
    }
    // If it cannot be told, it is dead, and that will show.
    (void)engine_->attach(std::move(*channel));
    return {};
}

void GuestTpm::disconnect() {
    ring_.reset();
    if (!engine_)
        return;
    const auto quiet = engine_->quiesce();
    note_words();
    if (!quiet)
        engine_died(quiet.error().context);
}

void GuestTpm::power_off(const xen::DomainLife& as_seen) {
    auto last = as_seen;
    // Nobody has seen it run on before it was gone: it was destroyed because it was saved.
    if (last.state == xen::DomainState::gone && !last.reason && powered_.suspended)
        last.reason = xen::ShutdownReason::suspend;
    if (last.reason != xen::ShutdownReason::suspend || !suspend(last))
        end_engine();
    power_ = Power::off;
    crashes_ = 0;
    resume_.reset();
    if (!last.can_act())  // else the device was detached, and the domain lives on
        life_record_.remove();
    // A soft reset (kexec of an HVM or PVH guest) goes on in the same domain: no power cycle, and
    // the guest itself picks this reason. The record makes the next vtpmd refuse to start afresh.
    if (last.reason != xen::ShutdownReason::soft_reset)
        record_.remove();
}

// An engine that could not do it serves nobody until it is told to go on. For a guest that is
// suspended itself that is no loss, and it is asked again.
Result<void> GuestTpm::suspend_engine(std::uint64_t label, bool guest_runs) {
    const auto end = Clock::now() + suspend_patience;
    for (;;) {
        // It may have gone in the same moment as the order to stop came, as when both are
        // restarted.
        pollfd manager{manager_.fd(), POLLIN, 0};
        if (::poll(&manager, 1, 0) > 0)
            on_manager();
        const auto held = manager_.fd() < 0 ? hold_again() : Result<void>();
        // One that has just started, and has not been heard yet, may have answered the guest
        // already.
        const auto done = held ? engine_->suspend(label) : held;
        const bool again =
            !held || (!done && done.error().next == NextAction::retry && !guest_runs);
        if (!again || Clock::now() >= end)
            return done;
        std::this_thread::sleep_for(manager_interval);
    }
}

// For the guest that is restored from the file that xl has just written. Whoever gets none, because
// this cannot be done, has a TPM in failure mode after its restore: it is told so now.
bool GuestTpm::suspend(const xen::DomainLife& last) {
    std::string why;
    if (last.ran_on) {
        why = "the guest ran on after it had been saved (xl save -c), and the two files look alike";
    } else if (!engine_ && power_ == Power::off && life_ && resume_ == life_) {
        spdlog::info("instance {} ({}): a vtpmd that has died was to suspend the TPM of domain {}",
                     uuid_.to_string(), instance_.name, guest_.domain);
        return true;
    } else if (!engine_ || power_ == Power::failed) {
        why = "it was not at work";
    } else if (!life_) {
        why = "this life of the guest has no name of its own";
    } else {
        const auto suspended = label(*life_, false);
        // If not, what it has sent may be stored yet. It is its last state, and nothing is to
        // follow it.
        ring_.reset();
        retry_at_.reset();
        ready_ = false;
        give_up_engine();
        if (suspended) {
            spdlog::info("instance {} ({}): the TPM of domain {} was suspended with it",
                         uuid_.to_string(), instance_.name, guest_.domain);
            return true;
        }
        why = log::printable(suspended.error().context);
    }
    spdlog::error(
        "instance {} ({}): domain {} was suspended, but its TPM could not be: {}; a guest restored "
        "from this may have a TPM in failure mode until it is shut down and started again",
        uuid_.to_string(), instance_.name, guest_.domain, why);
    return false;
}

// In the record first: whenever we die, the next vtpmd asks for what is in the vault.
Result<void> GuestTpm::label(std::uint64_t label, bool guest_runs) {
    powered_.label = label;
    VTPM_CHECK(record_.write(powered_));
    return suspend_engine(label, guest_runs);
}

void GuestTpm::end_engine() {
    ring_.reset();
    retry_at_.reset();
    forget_memory();
    ready_ = false;
    if (!engine_)
        return;
    if (const auto off = engine_->power_off(); !off) {
        spdlog::error("instance {} ({}): no orderly shutdown: {}", uuid_.to_string(),
                      instance_.name, log::printable(off.error().context));
    }
    give_up_engine();
}

void GuestTpm::gone() {
    manager_.close();
}

// The engine's own channel broke with it: commits wait a little and then fail, what needs none goes
// on. The hold is taken again as soon as the manager is back, so that nobody else gets the instance
// meanwhile, and the engine gets a new channel.
void GuestTpm::on_manager() {
    manager_.close();
    retry_at_ = Clock::now();
    spdlog::error(
        "instance {} ({}): vtpmmgrd is gone; until it is back the TPM of domain {} refuses what "
        "would change its lasting state",
        uuid_.to_string(), instance_.name, guest_.domain);
}

}  // namespace vtpm::doorman
