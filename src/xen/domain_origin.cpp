#include "vtpm/xen/domain_origin.h"

#include <string>

namespace vtpm::xen {
namespace {

// libxl writes the kernel of a PV guest that it builds itself, by a bootloader or not, and leaves
// it out when it restores one. Of other guests it writes nothing.
Result<std::optional<bool>> built_from_kernel(Store& store, DomainId domid) {
    const auto number = std::to_string(domid);
    VTPM_TRY(const auto type, store.read("/libxl/" + number + "/type"));
    if (type.value_or("") != "pv")
        return std::nullopt;
    VTPM_TRY(const auto vm, store.read("/local/domain/" + number + "/vm"));
    if (!vm)
        return std::nullopt;
    VTPM_TRY(const bool kernel, store.exists(*vm + "/image/kernel"));
    return kernel;
}

}  // namespace

Result<DomainOrigin> origin_of(Store& store, Domains& domains, DomainId domid, bool new_device,
                               std::optional<std::uint32_t> named) {
    VTPM_TRY(const auto life, domains.look(domid));
    VTPM_TRY(const auto incarnation, domains.incarnation(domid));
    if (new_device && life.state == DomainState::running)
        return DomainOrigin{Beginning::attached, incarnation};
    const bool created = incarnation == first_incarnation || incarnation == named;
    VTPM_TRY(const auto kernel, built_from_kernel(store, domid));
    if (kernel && *kernel != created) {
        return fail(Errc::unsupported, NextAction::refuse,
                    "it cannot be told whether domain " + std::to_string(domid) +
                        " was created or restored: by Xen's count it was " +
                        (created ? "created" : "restored") + ", by xenstore it was not");
    }
    return DomainOrigin{created ? Beginning::created : Beginning::restored, incarnation};
}

}  // namespace vtpm::xen
