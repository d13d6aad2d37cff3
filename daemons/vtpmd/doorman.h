// Doorman: vtpmd's loop: opens the instance, then waits for xenstore, the engine, the manager and
// signals until the device is gone. One thread.
#pragma once

#include <chrono>

#include "guest_tpm.h"
#include "vtpm/xen/back_device.h"

namespace vtpm::doorman {

class Doorman {
  public:
    using Clock = std::chrono::steady_clock;

    Doorman(xen::Store& store, xen::BackDevice& device, GuestTpm& tpm, ManagerClient& manager,
            GuestDevice guest, const PowerRecord& record, xen::Domains& domains,
            const LifeRecord& life);

    // Returns when the guest's device is gone, or on SIGTERM. Signals must be blocked in all
    // threads before.
    Result<void> run();
    // It was SIGTERM: the guest has its device still, and no vtpmd.
    bool stopped() const { return stopping_; }
    // And its engine is at work still, for the next vtpmd.
    bool left_engine() const { return left_engine_; }

  private:
    // How long an instance that another guest still holds is waited for: at a reboot the old domain
    // may be on its way out. libxl waits 10 s for us altogether.
    static constexpr std::chrono::seconds patience{6};
    static constexpr std::chrono::milliseconds retry_interval{200};
    static constexpr std::chrono::milliseconds slow_retry_interval{5000};
    static constexpr int max_failed_updates = 60;

    Result<bool> inherit(Clock::time_point now);
    Result<std::optional<Powered>> left_to_us() const;
    Result<void> clear_away();
    Result<void> try_open(Clock::time_point now);
    Result<void> serve(const OpenedInstance& instance, bool power_lost, Clock::time_point now);
    std::optional<std::uint32_t> name_life(const xen::DomainOrigin& origin);
    Result<void> refuse(const Error& error);
    Result<void> wait();
    Result<void> update(Clock::time_point now);
    int milliseconds_to_wait(Clock::time_point now) const;
    void on_signal();

    xen::Store& store_;
    xen::BackDevice& device_;
    GuestTpm& tpm_;
    ManagerClient& manager_;
    GuestDevice guest_;
    const PowerRecord& record_;
    xen::Domains& domains_;
    const LifeRecord& life_;
    Fd signals_;
    bool waiting_for_instance_ = true;
    bool told_to_wait_ = false;
    int failed_updates_ = 0;  // in a row
    bool stopping_ = false;
    bool left_engine_ = false;
    Clock::time_point give_up_;
    Clock::time_point next_try_;
};

}  // namespace vtpm::doorman
