// What one vtpmd leaves to the next, and what that makes of it.
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "guest_tpm.h"
#include "vtpm/base/log.h"

namespace vtpm::doorman {
namespace {

constexpr std::string_view engine_prefix = "engine-";
constexpr std::string_view memory_prefix = "memory-";
constexpr std::size_t engine_descriptors = 3;  // as note_started() stores them

unsigned number_of(std::string_view name, std::string_view prefix) {
    unsigned number = 0;
    name.remove_prefix(std::min(prefix.size(), name.size()));
    std::from_chars(name.data(), name.data() + name.size(), number);
    return number;
}

// That it has handed over.
std::string memory_name(unsigned engine) {
    return std::string(memory_prefix) + std::to_string(engine);
}

}  // namespace

std::string engine_name(unsigned number) {
    return std::string(engine_prefix) + std::to_string(number);
}

// The descriptors first, then the record, then the order to begin. An engine that the record does
// not know has done nothing.
Result<void> GuestTpm::note_started(const xen::RingAddress& ring) {
    powered_.instance = uuid_;
    powered_.tpm = instance_.tpm;
    powered_.engine = ++engines_;
    powered_.ring_ref = ring.ring_ref;
    powered_.event_channel = ring.event_channel;
    powered_.as = power_ == Power::failed ? PoweredAs::failed
                  : power_ == Power::on   ? PoweredAs::continued
                                          : PoweredAs::begun;
    powered_.life = life_.value_or(0);
    powered_.label = power_ == Power::off ? resume_.value_or(0) : 0;
    const auto [channel, process] = engine_->descriptors();
    const std::array<int, engine_descriptors> left = {channel, process, log_.descriptor()};
    store_.put(engine_name(powered_.engine), left);
    return record_.write(powered_);
}

void GuestTpm::opened_again(const Uuid& uuid, const OpenedInstance& instance,
                            const Result<Powered>& record) {
    uuid_ = uuid;
    instance_ = instance;
    tell_of_restart("vtpmd was restarted");
    if (power_ == Power::on)
        return;  // the engine is no more, but its memory is here
    if (!record || record->label == 0) {
        const bool told = !record && record.error().code != Errc::not_found;
        return lose_power(told ? record.error().context
                               : "vtpmd was restarted and its engine is no more");
    }
    resume_ = record->label;
    if (record->life != 0)
        life_ = record->life;
}

bool GuestTpm::inherit(const Powered& record, const xen::DomainLife& now) {
    uuid_ = record.instance;
    instance_ = {"?", record.tpm};  // its name comes with the hold
    powered_ = record;
    const bool suspended =
        now.state == xen::DomainState::shutdown && now.reason == xen::ShutdownReason::suspend;
    const bool alive =
        now.state == xen::DomainState::running || now.state == xen::DomainState::paused;
    // It has run on since, as after a checkpoint, while nobody looked.
    if (record.suspended && !suspended && alive)
        powered_.life = 0;
    if (powered_.life != 0)
        life_ = powered_.life;
    const bool adopted = adopt_engine(record);
    // Of the engine that the record names last: the one after it was ordered nothing.
    if (!adopted && volatile_state_.empty())
        recall_memory(memory_name(record.engine));
    disinherit();
    if (!adopted && volatile_state_.empty() && record.label != 0)
        resume_ = record.label;
    return adopted;
}

bool GuestTpm::adopt_engine(const Powered& record) {
    const auto name = engine_name(record.engine);
    auto left = store_.take(name);
    // systemd gives them back in any order.
    std::optional<Fd> channel;
    std::optional<Fd> process;
    for (auto& descriptor : left) {
        switch (DescriptorStore::kind_of(descriptor)) {
            case DescriptorStore::Kind::socket:
                channel = std::move(descriptor);
                break;
            case DescriptorStore::Kind::pipe:
                log_.adopt(std::move(descriptor));
                break;
            case DescriptorStore::Kind::other:
                process = std::move(descriptor);
        }
    }
    if (!channel || !process) {
        // Not all was kept: it cannot be gone on with, and must not go on by itself.
        if (process)
            (void)EngineProcess::adopt(Fd(), std::move(*process)).end();
        store_.drop(name);
        return false;
    }
    engine_.emplace(EngineProcess::adopt(std::move(*channel), std::move(*process)));
    const auto standing = engine_->describe();
    if (standing && (!*standing || (*standing)->powered())) {
        go_on(*standing);
        return true;
    }
    volatile_state_ = engine_->take_handed_over();
    if (!volatile_state_.empty()) {
        power_ = Power::on;
    } else if (standing && record.as == PoweredAs::continued) {
        recall_memory(newest_memory());  // it was to have this
    }
    keep_memory();
    // Ordered nothing, it has done nothing; and if it was the first, nothing was there before.
    if (standing && record.as == PoweredAs::begun && record.label == 0)
        record_.remove();
    const std::string how = engine_->end();
    spdlog::warn("instance {}: the engine that a vtpmd before left for domain {} {} ({})",
                 uuid_.to_string(), guest_.domain, standing ? "was not started yet" : "has ended",
                 standing ? how : log::printable(standing.error().context) + "; " + how);
    give_up_engine();
    return false;
}

// Until it has said where it stands, an engine counts as one that may have answered the guest.
// Nothing that it reports before decides anything.
void GuestTpm::go_on(const std::optional<wire::proto::Standing>& standing) {
    uncertain_ = true;
    power_ = powered_.as == PoweredAs::failed ? Power::failed : Power::on;
    ready_ = power_ == Power::on;
    if (powered_.label != 0)
        resume_ = powered_.label;
    // It was given this. If it could not begin with it, the next one may.
    if (powered_.as == PoweredAs::continued)
        recall_memory(newest_memory());
    if (standing)
        settle(*standing);
    if (!standing || !standing->quiesced())
        ring_ = xen::RingAddress{guest_.domain, powered_.ring_ref, powered_.event_channel};
    retry_at_ = Clock::now();  // the hold on the instance
    tell_of_restart("vtpmd died and was started again");
    spdlog::info("instance {}: the TPM of domain {} goes on; the vtpmd before this one has died",
                 uuid_.to_string(), guest_.domain);
}

// One whose TPM is in failure mode, or that was ordered nothing, has answered the guest nothing;
// and if it was the first, no other has.
void GuestTpm::settle(const wire::proto::Standing& standing) {
    uncertain_ = false;
    held_ = standing.held();
    if (held_ || (powered_.label != 0 && standing.powered() && standing.ready()))
        revoke_label();
    reported_failure_ = standing.powered() && !standing.ready();
    if (standing.powered() && standing.ready())
        forget_memory();
    if (power_ == Power::failed || (standing.powered() && standing.ready()))
        return;
    ready_ = false;
    if (powered_.as == PoweredAs::begun)
        power_ = Power::off;
}

// The TPM was not put by, and what it does from here on is not what may lie in the vault.
void GuestTpm::revoke_label() {
    powered_.label = 0;
    if (const auto written = record_.write(powered_); !written) {
        spdlog::error("domain {}: {}", guest_.domain, written.error().context);
        retry_at_ = Clock::now() + retry_interval;
        return;
    }
    resume_.reset();
    if (!held_)
        return;
    if (engine_->go_on())
        held_ = false;
    else
        retry_at_ = Clock::now() + retry_interval;
}

// What is left of a TPM whose engine is no more: what it has given to a vtpmd before us, or what
// that has told it to put by. An engine that is asked for it refuses if it is not in the vault.
void GuestTpm::engine_lost(const std::string& why) {
    auto state = engine_->take_handed_over();
    if (!state.empty()) {
        volatile_state_ = std::move(state);
        keep_memory();
    } else if (uncertain_ && powered_.label != 0) {
        forget_memory();
        power_ = Power::off;
        resume_ = powered_.label;
    } else {
        lose_power(why);
    }
}

// The store has the memory as well, until an engine is ready that was given it: nobody else has it
// then, once its engine's report is read. By the name of the engine that the record names, which
// says that no later one has gone on with it.
void GuestTpm::keep_memory() {
    if (volatile_state_.empty())
        return;
    const auto name = memory_name(powered_.engine);
    if (name == kept_memory_)
        return;
    if (const auto kept = store_.put_memory(name, volatile_state_.view()); !kept)
        return spdlog::warn("domain {}: {}", guest_.domain, kept.error().context);
    forget_copy();
    kept_memory_ = name;
}

std::string GuestTpm::newest_memory() const {
    unsigned newest = 0;
    for (const auto& name : store_.left(memory_prefix))
        newest = std::max(newest, number_of(name, memory_prefix));
    return memory_name(newest);
}

void GuestTpm::recall_memory(const std::string& name) {
    volatile_state_ = store_.take_memory(name);
    if (volatile_state_.empty())
        return;
    kept_memory_ = name;
    power_ = Power::on;
}

void GuestTpm::forget_memory() {
    volatile_state_ = SecretBytes();
    forget_copy();
}

void GuestTpm::forget_copy() {
    if (!kept_memory_.empty())
        store_.drop(std::exchange(kept_memory_, {}));
}

void GuestTpm::disinherit() {
    for (const auto& name : store_.left(memory_prefix)) {
        (void)store_.take(name);
        store_.drop(name);
    }
    for (const auto& name : store_.left(engine_prefix)) {
        engines_ = std::max(engines_, number_of(name, engine_prefix));
        for (auto& descriptor : store_.take(name)) {
            if (DescriptorStore::kind_of(descriptor) == DescriptorStore::Kind::other)
                (void)EngineProcess::adopt(Fd(), std::move(descriptor)).end();
        }
        store_.drop(name);
    }
    engines_ = std::max(engines_, powered_.engine);
}

bool GuestTpm::stop(const xen::DomainLife& last) {
    // It could not begin, and so has nothing that could be put by. What it was to begin with stays
    // what the next one is to begin with.
    if (engine_ && !ready_ && !uncertain_ && reported_failure_) {
        (void)engine_->end();
        keep_memory();
        give_up_engine();
        if (power_ == Power::off && powered_.label == 0)
            record_.remove();
    }
    if (engine_ && power_ != Power::failed) {
        const auto label = powered_.label;
        const auto done = put_by(last);
        if (done) {
            forget_memory();
            give_up_engine();
            return true;
        }
        spdlog::error(
            "instance {} ({}): the TPM of domain {} could not be put by; its engine is left for "
            "the next vtpmd: {}",
            uuid_.to_string(), instance_.name, guest_.domain, log::printable(done.error().context));
        // It has said that it has not begun, or was not asked: what it is to begin with lies where
        // it lay.
        if (!ready_ && done.error().code != Errc::timeout) {
            powered_.label = label;
            if (const auto written = record_.write(powered_); !written)
                spdlog::error("domain {}: {}", guest_.domain, written.error().context);
        }
        engine_->leave();
        return false;
    }
    if (!engine_ && !kept_memory_.empty()) {
        spdlog::warn(
            "instance {} ({}): the TPM of domain {} is between two engines; its memory is left "
            "for the next vtpmd",
            uuid_.to_string(), instance_.name, guest_.domain);
        return false;
    }
    end_engine();
    return true;
}

// Under a label that is of no life's: the guest goes on, and so will the TPM, with the next vtpmd.
Result<void> GuestTpm::put_by(const xen::DomainLife& last) {
    std::uint64_t label = 0;
    if (::getrandom(&label, sizeof(label), 0) != sizeof(label))
        return fail_errno("getrandom", errno);
    label |= std::uint64_t{1} << 63U;
    if (last.ran_on)
        powered_.life = 0;
    return this->label(label, true);
}

void GuestTpm::seen(const xen::DomainLife& life) {
    const bool suspended =
        life.state == xen::DomainState::shutdown && life.reason == xen::ShutdownReason::suspend;
    const bool nameless = life.ran_on && powered_.life != 0;
    if (!engine_ || (suspended == powered_.suspended && !nameless))
        return;
    powered_.suspended = suspended;
    if (life.ran_on) {
        powered_.life = 0;
        life_.reset();
    }
    if (const auto written = record_.write(powered_); !written)
        spdlog::error("domain {}: {}", guest_.domain, written.error().context);
}

}  // namespace vtpm::doorman
