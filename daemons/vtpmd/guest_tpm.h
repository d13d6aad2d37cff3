// GuestTpm: one guest's TPM as its doorman sees it: which engine has it, and whether it has power.
//
//   off --connect, engine ready--> on --disconnect--> on (the engine is quiesced)
//        on --connect--> hand-over: a new engine goes on where the quiesced one stood
//        on --the engine dies--> failed: an engine that answers "failure mode", until power_off
//   power_off ends all of it. What volatile state there was is gone with it, as with a real TPM,
//        unless the guest was suspended: then it lies in the vault, for a guest that is restored
//        from the save file of this suspend, and for no other (docs/decisions/0009).
//
// A vtpmd that dies leaves its engine at work; the next one inherits it (docs/decisions/0010), by
// the record and by the descriptors that systemd keeps meanwhile.
//
// An engine that dies before it is ready has answered nothing: nothing is lost, what it was given
// is still here, and another may be started; later and later, if none gets ready on this
// connection. One that cannot map what the guest offers ends by itself. One that is killed may have
// died of what it was given (a state at which libtpms crashes): after some of these in a row,
// whatever the guest did meanwhile, it gets a TPM in failure mode. Once it was ready, its death
// loses the PCRs.
//
// Called by BackDevice (see BackDeviceOwner) and by the main loop, on one thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "descriptor_store.h"
#include "engine_log.h"
#include "engine_process.h"
#include "guest_device.h"
#include "life_record.h"
#include "manager_client.h"
#include "power_record.h"
#include "vtpm/xen/back_device_owner.h"
#include "vtpm/xen/domain_origin.h"

namespace vtpm::doorman {

// Under which the store has an engine's descriptors.
std::string engine_name(unsigned number);

class GuestTpm : public xen::BackDeviceOwner {
  public:
    using Clock = std::chrono::steady_clock;

    GuestTpm(GuestDevice guest, ManagerClient& manager, std::string engine_program,
             PowerRecord record, LifeRecord life, DescriptorStore& store);

    // The instance was opened for a guest whose life began like this. `life`: the incarnation, if
    // it tells this life from all others.
    void opened(const Uuid& uuid, const OpenedInstance& instance, xen::Beginning beginning,
                std::optional<std::uint32_t> life);
    // A vtpmd before us has served this guest, and its engine is no more. The TPM goes on if it was
    // put by as the record says.
    void opened_again(const Uuid& uuid, const OpenedInstance& instance,
                      const Result<Powered>& record);
    // A vtpmd before us has died. If its engine is still there, it is ours now, with the TPM; the
    // hold on the instance follows by itself. Else false, and then opened() or opened_again() come.
    bool inherit(const Powered& record, const xen::DomainLife& now);
    // The ring that an inherited engine serves.
    const std::optional<xen::RingAddress>& ring() const { return ring_; }
    // What was left to us and is of no use any more.
    void disinherit();
    // What matters to the next vtpmd, should we die.
    void seen(const xen::DomainLife& life);

    Result<void> connect(const xen::RingAddress& ring) override;
    void disconnect() override;
    void power_off(const xen::DomainLife& as_seen) override;
    void gone() override;

    int engine_fd() const { return engine_ ? engine_->fd() : -1; }
    void on_engine();  // engine_fd() is readable
    // What the engine has written to standard error.
    int log_fd(Clock::time_point now) const { return log_.fd(now); }
    void on_log(Clock::time_point now) { log_.read(now); }
    void on_manager();  // the manager's connection is readable: it is lost

    // What has to be tried again: an engine that did not come up, a manager that was away.
    // And when more of the engine's log may be read.
    std::optional<Clock::time_point> next_deadline(Clock::time_point now) const;
    void tick(Clock::time_point now);

    // vtpmd is being stopped with the guest still there: puts the TPM's state by. The power record
    // tells the next vtpmd where it is, or that it was lost. False: that could not be done; the
    // engine is left for the next vtpmd.
    bool stop(const xen::DomainLife& last);

  private:
    enum class Power { off, on, failed };
    static constexpr std::chrono::seconds retry_interval{3};
    // After 3, 6 and 12 s more: well within the 120 s that a guest's driver waits for its first
    // answer.
    static constexpr int max_crashes = 4;
    static constexpr unsigned max_doublings = 5;
    static constexpr std::chrono::milliseconds manager_interval{300};
    // A manager that has just started may be busy; libxl waits 10 s for us.
    static constexpr std::chrono::seconds hold_patience{3};
    static constexpr int max_taken_by_other = 20;
    // For a manager that is being restarted while a guest is saved. xl has let go of us by then.
    static constexpr std::chrono::seconds suspend_patience{5};

    Result<void> start_engine(const xen::RingAddress& ring);
    void tell_of_restart(const std::string& why);
    void tell_of_engine();
    void tell_of_handover();
    void tell_of_failure(const std::string& why);
    void tell();
    Result<void> note_started(const xen::RingAddress& ring);
    bool adopt_engine(const Powered& record);
    void go_on(const std::optional<wire::proto::Standing>& standing);
    void settle(const wire::proto::Standing& standing);
    void revoke_label();
    void engine_lost(const std::string& why);
    Result<void> label(std::uint64_t label, bool guest_runs);
    void keep_memory();
    std::string newest_memory() const;
    void recall_memory(const std::string& name);
    void forget_memory();
    void forget_copy();
    Result<Fd> engine_channel();
    Result<void> hold_again();
    Result<void> take_over();
    void note_words();
    void give_up_engine();
    void became_ready(const wire::proto::Ready& ready);
    void not_started(const wire::proto::Failure& failure);
    void engine_died(const std::string& why);
    Clock::time_point next_engine_at(Clock::time_point now) const;
    void lose_power(const std::string& why);
    void fail_until_power_off(const std::string& why);
    void end_engine();
    bool suspend(const xen::DomainLife& last);
    Result<void> suspend_engine(std::uint64_t label, bool guest_runs);
    Result<void> put_by(const xen::DomainLife& last);

    GuestDevice guest_;
    ManagerClient& manager_;
    std::string engine_program_;
    PowerRecord record_;
    Powered powered_;  // what the record says
    DescriptorStore& store_;
    unsigned engines_ = 0;  // by us and by the vtpmds before us
    LifeRecord life_record_;
    Uuid uuid_;
    OpenedInstance instance_{"?", tpm::Version::v1_2};
    Power power_ = Power::off;
    std::optional<std::uint32_t> life_;    // its name, if it has one
    std::optional<std::uint64_t> resume_;  // the TPM has to go on where it was put by under this
    bool ready_ = false;                   // the engine's TPM runs, and may have answered the guest
    std::optional<xen::RingAddress> ring_;  // while connected
    EngineLog log_;
    std::optional<EngineProcess> engine_;
    bool reported_failure_ = false;  // by this engine
    bool uncertain_ = false;         // an inherited one has not said yet where it stands
    bool held_ = false;              // it waits for the record to name no label
    RateBound deaths_{2, retry_interval};
    int crashes_ = 0;             // engines in a row that were killed before they were ready
    unsigned fruitless_ = 0;      // engines in a row of this connection that never served
    int taken_by_other_ = 0;      // times in a row that we found our instance in another's hands
    SecretBytes volatile_state_;  // between two engines; ours until the next one is ready
    std::string kept_memory_;     // the name of its copy in the store, if there is one
    std::optional<Clock::time_point> retry_at_;
    wire::proto::Power story_;  // for people: what the manager is told; nothing is decided by it
};

}  // namespace vtpm::doorman
