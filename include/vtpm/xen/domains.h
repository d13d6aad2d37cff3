// Domains: what the hypervisor says about a domain's life. A contract; LibxenDomains is the real
// one. Nothing in xenstore tells a power-off from a save; this does. Used on one thread.
#pragma once

#include <cstdint>
#include <optional>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"

namespace vtpm::xen {

// SHUTDOWN_* of xen/sched.h.
enum class ShutdownReason : std::uint8_t {
    power_off = 0,
    reboot = 1,
    suspend = 2,  // save, migration or a checkpoint; may run on
    crash = 3,
    watchdog = 4,
    soft_reset = 5,
    unknown = 255,
};

enum class DomainState {
    running,   // or could: has vCPUs that nobody holds back
    paused,    // by the toolstack; a domain under construction too
    shutdown,  // the guest asked for it, see the reason; its vCPUs stand still
    dying,     // being torn down
    gone,      // no such domain
};

struct DomainLife {
    DomainState state = DomainState::running;
    std::optional<ShutdownReason> reason;  // once it has shut down; may be kept while dying
    // It was suspended and ran on (xl save -c): a save file of then and one of a later suspend bear
    // the same incarnation. BackDevice's to say; Domains knows nothing of the past.
    bool ran_on = false;

    // It will never run again under this id.
    bool ended() const {
        if (state == DomainState::dying || state == DomainState::gone)
            return true;
        return state == DomainState::shutdown && reason != ShutdownReason::suspend;
    }
    // Its guest could answer a handshake now.
    bool can_act() const { return state == DomainState::running; }

    bool operator==(const DomainLife&) const = default;
};

class Domains {
  public:
    virtual ~Domains() = default;
    virtual Result<DomainLife> look(DomainId domid) = 0;

    // Xen's migration count (xen/arch-x86/cpuid.h, leaf 3): 1 for a domain that was created. It
    // goes into a save file, and a domain restored from that has one more. No guest can change it.
    virtual Result<std::uint32_t> incarnation(DomainId domid) = 0;
    // Only of a created domain that has never run.
    virtual Result<void> set_incarnation(DomainId domid, std::uint32_t incarnation) = 0;
};

}  // namespace vtpm::xen
