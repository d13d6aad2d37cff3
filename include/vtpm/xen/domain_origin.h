// DomainOrigin: whether a domain was created or restored, for a device that is new.
//
// Nothing says so outright. What Xen counts (Domains::incarnation) and what libxl writes for a PV
// guest, the kernel it was created with (libxl_create.c), have to agree; else nothing is known.
#pragma once

#include <cstdint>

#include "vtpm/xen/domains.h"
#include "vtpm/xen/store.h"

namespace vtpm::xen {

enum class Beginning {
    created,   // has never run: its TPM begins with it
    restored,  // goes on where a save file left off
    attached,  // runs already; the device is what is new
};

struct DomainOrigin {
    Beginning beginning = Beginning::created;
    std::uint32_t incarnation = 1;
};

inline constexpr std::uint32_t first_incarnation = 1;

// `new_device`: nobody has served it before, and so libxl has not unpaused a domain that it builds.
// `named`: the incarnation that this domain was given by us after its creation, if it was.
// Errc::unsupported: what there is to be seen contradicts itself.
Result<DomainOrigin> origin_of(Store& store, Domains& domains, DomainId domid, bool new_device,
                               std::optional<std::uint32_t> named);

}  // namespace vtpm::xen
