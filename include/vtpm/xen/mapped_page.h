// MappedPage: the one owner of a mapped ring page, whoever mapped it. Move-only; destroying it
// unmaps. SharedPage is how its bytes are reached.
#pragma once

#include <functional>

#include "vtpm/xen/shared_page.h"

namespace vtpm::xen {

class MappedPage {
  public:
    using Unmap = std::function<void(void*)>;

    MappedPage(void* memory, Unmap unmap);
    MappedPage(MappedPage&& other) noexcept;
    MappedPage& operator=(MappedPage&& other) noexcept;
    MappedPage(const MappedPage&) = delete;
    MappedPage& operator=(const MappedPage&) = delete;
    ~MappedPage();

    SharedPage page() const { return SharedPage(memory_); }

  private:
    void* memory_;
    Unmap unmap_;
};

}  // namespace vtpm::xen
