#include "vtpm/xen/libxen_domains.h"

#include <cerrno>
#include <string>

#include "mute_log.h"

// Xen's interface headers insist on GNU C; we compile strict C++. Nothing is included after this.
#undef __STRICT_ANSI__
extern "C" {  // Xen's headers do not say so themselves
#include <xenctrl.h>
}

namespace vtpm::xen {

namespace {

ShutdownReason reason_of(std::uint32_t flags) {
    const auto code = (flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
    if (code > SHUTDOWN_soft_reset)
        return ShutdownReason::unknown;
    return static_cast<ShutdownReason>(code);
}

DomainState state_of(std::uint32_t flags) {
    if ((flags & XEN_DOMINF_dying) != 0)
        return DomainState::dying;
    if ((flags & XEN_DOMINF_shutdown) != 0)
        return DomainState::shutdown;
    if ((flags & XEN_DOMINF_paused) != 0)
        return DomainState::paused;
    return DomainState::running;
}

}  // namespace

static_assert(SHUTDOWN_poweroff == static_cast<int>(ShutdownReason::power_off));
static_assert(SHUTDOWN_reboot == static_cast<int>(ShutdownReason::reboot));
static_assert(SHUTDOWN_suspend == static_cast<int>(ShutdownReason::suspend));
static_assert(SHUTDOWN_crash == static_cast<int>(ShutdownReason::crash));
static_assert(SHUTDOWN_watchdog == static_cast<int>(ShutdownReason::watchdog));
static_assert(SHUTDOWN_soft_reset == static_cast<int>(ShutdownReason::soft_reset));

Result<std::unique_ptr<LibxenDomains>> LibxenDomains::open() {
    xc_interface* const handle = xc_interface_open(mute_log(), mute_log(), 0);
    if (handle == nullptr)
        return fail_errno("opening the hypervisor's control interface", errno);
    return std::unique_ptr<LibxenDomains>(new LibxenDomains(handle));
}

LibxenDomains::~LibxenDomains() {
    xc_interface_close(handle_);
}

Result<DomainLife> LibxenDomains::look(DomainId domid) {
    xc_domaininfo_t info{};
    // Returns the first domain whose number is not below the one asked for.
    const int count = xc_domain_getinfolist(handle_, domid, 1, &info);
    if (count < 0)
        return fail_errno("asking for domain " + std::to_string(domid), errno);
    if (count == 0 || info.domain != domid)
        return DomainLife{DomainState::gone, std::nullopt};
    DomainLife life{state_of(info.flags), std::nullopt};
    if ((info.flags & XEN_DOMINF_shutdown) != 0)
        life.reason = reason_of(info.flags);
    return life;
}

namespace {

struct TscInfo {
    std::uint32_t mode = 0;
    std::uint64_t elapsed = 0;
    std::uint32_t khz = 0;
    std::uint32_t incarnation = 0;
};

Result<TscInfo> tsc_info(xc_interface* handle, DomainId domid) {
    TscInfo info;
    if (xc_domain_get_tsc_info(handle, domid, &info.mode, &info.elapsed, &info.khz,
                               &info.incarnation) != 0)
        return fail_errno("asking for the incarnation of domain " + std::to_string(domid), errno);
    return info;
}

}  // namespace

Result<std::uint32_t> LibxenDomains::incarnation(DomainId domid) {
    VTPM_TRY(const auto info, tsc_info(handle_, domid));
    return info.incarnation;
}

// The rest stays what libxl has set for a new domain (libxl__arch_domain_create). Xen counts this
// call as it counts a restore.
Result<void> LibxenDomains::set_incarnation(DomainId domid, std::uint32_t incarnation) {
    VTPM_TRY(const auto info, tsc_info(handle_, domid));
    if (xc_domain_set_tsc_info(handle_, domid, info.mode, 0, 0, incarnation - 1) != 0)
        return fail_errno("naming the life of domain " + std::to_string(domid), errno);
    return {};
}

}  // namespace vtpm::xen
