#include "vtpm/xen/libxen_grant_share.h"

extern "C" {  // Xen's headers do not say so themselves
#include <xengnttab.h>
}

#include <cerrno>
#include <cstring>
#include <memory>

#include "mute_log.h"

namespace vtpm::xen {

Result<GrantedPage> LibxenGrantShare::share(DomainId peer) {
    const std::shared_ptr<xengntshr_handle> handle(xengntshr_open(mute_log(), 0),
                                                   [](xengntshr_handle* open) {
                                                       if (open != nullptr)
                                                           xengntshr_close(open);
                                                   });
    if (!handle)
        return fail_errno("opening the grant allocator", errno);
    std::uint32_t ref = 0;
    void* const memory = xengntshr_share_pages(handle.get(), peer, 1, &ref, 1);
    if (memory == nullptr)
        return fail_errno("granting a page", errno);
    std::memset(memory, 0, tpmif::page_size);
    return GrantedPage{
        MappedPage(memory, [handle](void* page) { xengntshr_unshare(handle.get(), page, 1); }),
        ref};
}

}  // namespace vtpm::xen
