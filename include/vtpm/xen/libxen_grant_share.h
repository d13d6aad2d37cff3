// LibxenGrantShare: GrantShare on libxengnttab's gntshr half. Each page has a handle of its own.
#pragma once

#include "vtpm/xen/grant_share.h"

namespace vtpm::xen {

class LibxenGrantShare final : public GrantShare {
  public:
    Result<GrantedPage> share(DomainId peer) override;
};

}  // namespace vtpm::xen
