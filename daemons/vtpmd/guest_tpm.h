// GuestTpm: one guest's TPM as its doorman sees it: which engine has it, and whether it has power.
//
//   off --connect--> on (an engine serves) --disconnect--> on (the engine is quiesced)
//        on --connect--> hand-over: a new engine goes on where the quiesced one stood
//        on --the engine dies--> failed: an engine that answers "failure mode", until power_off
//   power_off ends all of it. What volatile state there was is gone with it, as with a real TPM.
//
// Called by BackDevice (see BackDeviceOwner) and by the main loop, on one thread.
#pragma once

#include <optional>
#include <string>

#include "engine_process.h"
#include "guest_device.h"
#include "manager_client.h"
#include "power_record.h"
#include "vtpm/xen/back_device_owner.h"

namespace vtpm::doorman {

class GuestTpm : public xen::BackDeviceOwner {
  public:
    GuestTpm(GuestDevice guest, ManagerClient& manager, std::string engine_program,
             PowerRecord record);

    // The instance was opened; power_lost: an earlier vtpmd's engine is no more.
    void opened(const Uuid& uuid, const OpenedInstance& instance, bool power_lost);

    Result<void> connect(const xen::RingAddress& ring) override;
    void disconnect() override;
    void power_off(const xen::DomainLife& last) override;
    void gone() override;

    int engine_fd() const { return engine_ ? engine_->fd() : -1; }
    void on_engine();   // engine_fd() is readable
    void on_manager();  // the manager's connection is readable: it is lost
    // vtpmd is being stopped with the guest still there: ends the engine in order. The power record
    // stays, so that the next vtpmd knows what was lost.
    void stop();

  private:
    enum class Power { off, on, failed };

    Result<void> start_engine(const xen::RingAddress& ring);
    Result<void> take_over();
    void engine_died(const std::string& why);
    void end_engine();

    GuestDevice guest_;
    ManagerClient& manager_;
    std::string engine_program_;
    PowerRecord record_;
    Uuid uuid_;
    OpenedInstance instance_{"?", tpm::Version::v1_2};
    Power power_ = Power::off;
    bool ready_ = false;                    // the engine has said that its TPM runs
    std::optional<xen::RingAddress> ring_;  // while connected
    std::optional<EngineProcess> engine_;
    SecretBytes volatile_state_;  // between two engines
};

}  // namespace vtpm::doorman
