// RawGrants: GrantShare straight on /dev/xen/gntalloc, for a guest that keeps no rules: its pages
// are there to be scribbled on, can be granted read-only or to the wrong domain, and revoked while
// the other side has them mapped: as far as Linux does that, and by writing the table itself, which
// Linux never would (module/grant_entries.c).
#pragma once

#include <cstdint>

#include "vtpm/base/fd.h"
#include "vtpm/xen/grant_share.h"

namespace vtpm::cheat {

enum class Access { read_write, read_only };

class RawGrants final : public xen::GrantShare {
  public:
    RawGrants();  // throws without the device

    Result<xen::GrantedPage> share(xen::DomainId peer) override;
    // A page of its own, until the program ends.
    Result<std::uint32_t> grant(xen::DomainId peer, Access access);
    // Gives up the page that was shared last, whoever has it mapped: the kernel takes it back as
    // soon as Xen lets it. No raw() until the next share().
    Result<void> revoke();

    std::uint8_t* raw() const { return raw_; }  // of the page that was shared last
    std::uint32_t ref() const { return ref_; }  // and its grant

  private:
    struct Allocated {
        std::uint64_t index;
        std::uint32_t ref;
    };
    Result<Allocated> allocate(xen::DomainId peer, Access access);
    Result<void> release(std::uint64_t index);

    Fd device_;
    std::uint8_t* raw_ = nullptr;
    std::uint64_t index_ = 0;
    std::uint32_t ref_ = 0;
    void* revoked_ = nullptr;  // the owner of its MappedPage does not know yet
};

// The entry of the guest's grant table, at once, whoever has the page mapped. Its page becomes that
// of the entry `frame_of`.
Result<void> write_entry(std::uint32_t ref, std::uint16_t flags, xen::DomainId peer,
                         std::uint32_t frame_of);

}  // namespace vtpm::cheat
