// LibxenDomains: Domains on libxenctrl (/dev/xen/privcmd, so root in dom0).
//
// Uses xc_domain_getinfolist, which is the same from 4.17 on; xc_domain_getinfo went away
// with 4.18.
#pragma once

#include <memory>

#include "vtpm/xen/domains.h"

struct xc_interface_core;

namespace vtpm::xen {

class LibxenDomains final : public Domains {
  public:
    static Result<std::unique_ptr<LibxenDomains>> open();

    ~LibxenDomains() override;
    LibxenDomains(const LibxenDomains&) = delete;
    LibxenDomains& operator=(const LibxenDomains&) = delete;

    Result<DomainLife> look(DomainId domid) override;
    Result<std::uint32_t> incarnation(DomainId domid) override;
    Result<void> set_incarnation(DomainId domid, std::uint32_t incarnation) override;

  private:
    explicit LibxenDomains(xc_interface_core* handle) : handle_(handle) {}

    xc_interface_core* handle_;
};

}  // namespace vtpm::xen
