#include "guest_tpm.h"

#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::doorman {

GuestTpm::GuestTpm(GuestDevice guest, ManagerClient& manager, std::string engine_program,
                   PowerRecord record)
    : guest_(guest),
      manager_(manager),
      engine_program_(std::move(engine_program)),
      record_(std::move(record)) {}

void GuestTpm::opened(const Uuid& uuid, const OpenedInstance& instance, bool power_lost) {
    uuid_ = uuid;
    instance_ = instance;
    if (!power_lost)
        return;
    power_ = Power::failed;
    spdlog::error(
        "instance {} ({}): its engine is gone and with it the PCRs of this boot; domain "
        "{} gets a TPM in failure mode until it is shut down and started again",
        uuid_.to_string(), instance_.name, guest_.domain);
}

Result<void> GuestTpm::connect(const xen::RingAddress& ring) {
    if (engine_)
        VTPM_CHECK(take_over());
    VTPM_CHECK(start_engine(ring));
    ring_ = ring;
    return {};
}

// The quiesced engine gives up what it remembers; from here until the new engine is ready it is
// ours.
Result<void> GuestTpm::take_over() {
    if (power_ == Power::on) {
        auto state = engine_->hand_over();
        if (!state) {
            engine_died(state.error().context);
        } else {
            volatile_state_ = std::move(*state);
        }
    }
    engine_.reset();
    return {};
}

Result<void> GuestTpm::start_engine(const xen::RingAddress& ring) {
    VTPM_TRY(auto channel, manager_.attach_engine());
    VTPM_CHECK(record_.write());
    VTPM_TRY(auto engine, EngineProcess::start(engine_program_, guest_, ring, std::move(channel)));
    wire::proto::PowerOn order;
    order.set_tpm(static_cast<std::uint32_t>(instance_.tpm));
    order.set_failed(power_ == Power::failed);
    VTPM_CHECK(engine.power_on(order, volatile_state_));
    ready_ = false;
    engine_.emplace(std::move(engine));
    return {};
}

void GuestTpm::on_engine() {
    const auto report = engine_->next_report();
    if (!report)
        return engine_died(report.error().context);
    if (report->has_ready()) {
        const bool resumed = !volatile_state_.empty();
        volatile_state_ = SecretBytes();
        power_ = Power::on;
        ready_ = true;
        spdlog::info("instance {} ({}): TPM {} {} for domain {} in {} ms", uuid_.to_string(),
                     instance_.name, tpm::to_string(instance_.tpm),
                     report->ready().manufactured() ? "manufactured and started"
                     : resumed                      ? "goes on"
                                                    : "started",
                     guest_.domain, report->ready().start_microseconds() / 1000);
    } else if (report->has_failure() && power_ != Power::failed) {
        power_ = Power::failed;
        spdlog::error("instance {} ({}): the TPM of domain {} is in failure mode: {}",
                      uuid_.to_string(), instance_.name, guest_.domain,
                      report->failure().context());
    }
}

// By itself, or by somebody's hand. Whatever it remembered is gone.
void GuestTpm::engine_died(const std::string& why) {
    const std::string how = engine_->end();
    engine_.reset();
    spdlog::error("instance {} ({}): the engine of domain {} is gone ({}; {})", uuid_.to_string(),
                  instance_.name, guest_.domain, how, why);
    // One that never came up, and had nothing to lose, may be tried again by the guest.
    if (!ready_ && power_ != Power::on)
        return;
    power_ = Power::failed;
    volatile_state_ = SecretBytes();
    if (!ring_)
        return;
    spdlog::error("domain {} gets a TPM in failure mode until it is shut down and started again",
                  guest_.domain);
    if (const auto started = start_engine(*ring_); !started) {
        spdlog::error("and its engine did not start: {}", started.error().context);
    }
}

void GuestTpm::disconnect() {
    ring_.reset();
    if (!engine_)
        return;
    if (const auto quiet = engine_->quiesce(); !quiet)
        engine_died(quiet.error().context);
}

void GuestTpm::power_off(const xen::DomainLife&) {
    end_engine();
    power_ = Power::off;
    record_.remove();
}

void GuestTpm::stop() {
    end_engine();
}

void GuestTpm::end_engine() {
    ring_.reset();
    volatile_state_ = SecretBytes();
    if (!engine_)
        return;
    if (const auto off = engine_->power_off(); !off) {
        spdlog::error("instance {} ({}): no orderly shutdown: {}", uuid_.to_string(),
                      instance_.name, off.error().context);
    }
    engine_.reset();
}

void GuestTpm::gone() {
    manager_.close();
}

// Its commits fail from now on; the guest keeps reading. The next guest start finds a new manager.
void GuestTpm::on_manager() {
    manager_.close();
    spdlog::error(
        "instance {} ({}): vtpmmgrd is gone; domain {} can read its TPM but no longer "
        "write until it is started again",
        uuid_.to_string(), instance_.name, guest_.domain);
}

}  // namespace vtpm::doorman
