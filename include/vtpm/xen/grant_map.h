// Mapping a page that a guest granted (libxengnttab), for the back end.
#pragma once

#include <cstdint>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/mapped_page.h"

namespace vtpm::xen {

// Maps grant `ref` of `domid` readable and writable. /dev/xen/gntdev is closed again before this
// returns: the mapping lives on without it (the kernel's mapping holds the device file), and is
// undone by munmap or the end of the process. So the caller keeps no privileged descriptor, and a
// jail needs to allow nothing for it. Leave it mapped in a process that may not munmap.
Result<MappedPage> map_grant(DomainId domid, std::uint32_t ref);

}  // namespace vtpm::xen
