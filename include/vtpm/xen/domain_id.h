// The hypervisor's number of a domain (domid_t); dom0 is 0, no ordinary domain is above 0x7FEF.
#pragma once

#include <cstdint>

namespace vtpm::xen {

using DomainId = std::uint32_t;

}  // namespace vtpm::xen
