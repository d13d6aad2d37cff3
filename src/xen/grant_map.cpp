#include "vtpm/xen/grant_map.h"

#include <sys/mman.h>
extern "C" {  // Xen's headers do not say so themselves
#include <xengnttab.h>
}

#include <cerrno>
#include <memory>
#include <string>

#include "mute_log.h"

namespace vtpm::xen {

Result<MappedPage> map_grant(DomainId domid, std::uint32_t ref) {
    const std::unique_ptr<xengnttab_handle, decltype(&xengnttab_close)> handle(
        xengnttab_open(mute_log(), 0), xengnttab_close);
    if (!handle)
        return fail_errno("opening the grant device", errno);
    void* const memory = xengnttab_map_grant_ref(handle.get(), domid, ref, PROT_READ | PROT_WRITE);
    if (memory == nullptr) {
        // The number is the guest's, and so is the blame: the same one will not do better.
        return fail(Errc::malformed, NextAction::refuse,
                    "grant " + std::to_string(ref) + " of domain " + std::to_string(domid) +
                        " cannot be mapped");
    }
    return MappedPage(memory, [](void* page) { ::munmap(page, tpmif::page_size); });
}

}  // namespace vtpm::xen
