#include "raw_grants.h"

#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <xen/gntalloc.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace vtpm::cheat {

RawGrants::RawGrants() : device_(::open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC)) {
    if (!device_.valid())
        throw std::runtime_error("no /dev/xen/gntalloc");
}

Result<RawGrants::Allocated> RawGrants::allocate(xen::DomainId peer, Access access) {
    ioctl_gntalloc_alloc_gref wanted{};
    wanted.domid = static_cast<std::uint16_t>(peer);
    wanted.flags = access == Access::read_write ? GNTALLOC_FLAG_WRITABLE : 0;
    wanted.count = 1;
    if (::ioctl(device_.get(), IOCTL_GNTALLOC_ALLOC_GREF, &wanted) != 0)
        return fail_errno("granting a page", errno);
    return Allocated{wanted.index, wanted.gref_ids[0]};
}

Result<void> RawGrants::release(std::uint64_t index) {
    ioctl_gntalloc_dealloc_gref ended{};
    ended.index = index;
    ended.count = 1;
    if (::ioctl(device_.get(), IOCTL_GNTALLOC_DEALLOC_GREF, &ended) != 0)
        return fail_errno("revoking a grant", errno);
    return {};
}

Result<xen::GrantedPage> RawGrants::share(xen::DomainId peer) {
    VTPM_TRY(const auto page, allocate(peer, Access::read_write));
    void* const memory = ::mmap(nullptr, xen::tpmif::page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                                device_.get(), static_cast<off_t>(page.index));
    if (memory == MAP_FAILED)
        return fail_errno("mapping a page of our own", errno);
    std::memset(memory, 0, xen::tpmif::page_size);
    raw_ = static_cast<std::uint8_t*>(memory);
    index_ = page.index;
    ref_ = page.ref;
    auto unmap = [this, index = page.index](void* mapped) {
        if (mapped == std::exchange(revoked_, nullptr))
            return;
        ::munmap(mapped, xen::tpmif::page_size);
        (void)release(index);
    };
    return xen::GrantedPage{xen::MappedPage(memory, std::move(unmap)), page.ref};
}

Result<std::uint32_t> RawGrants::grant(xen::DomainId peer, Access access) {
    VTPM_TRY(const auto page, allocate(peer, access));
    return page.ref;
}

Result<void> RawGrants::revoke() {
    ::munmap(raw_, xen::tpmif::page_size);
    revoked_ = std::exchange(raw_, nullptr);
    return release(index_);
}

Result<void> write_entry(std::uint32_t ref, std::uint16_t flags, xen::DomainId peer,
                         std::uint32_t frame_of) {
    const Fd file(::open("/sys/module/grant_entries/parameters/entry", O_WRONLY | O_CLOEXEC));
    if (!file.valid())
        return fail_errno("the module that writes grants", errno);
    const std::string text = std::to_string(ref) + " " + std::to_string(flags) + " " +
                             std::to_string(peer) + " " + std::to_string(frame_of);
    return write_all(file.get(), as_bytes(text));
}

}  // namespace vtpm::cheat
