// GrantShare: where a front end gets a page that it shares with its back end's domain.
// A contract; LibxenGrantShare is /dev/xen/gntalloc. Used on one thread.
#pragma once

#include <cstdint>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/mapped_page.h"

namespace vtpm::xen {

struct GrantedPage {
    MappedPage memory;  // zeroed; the grant ends with it
    std::uint32_t ref;
};

class GrantShare {
  public:
    virtual ~GrantShare() = default;
    virtual Result<GrantedPage> share(DomainId peer) = 0;
};

}  // namespace vtpm::xen
