// FakeGrantShare: pages granted by a front end, for the back end in the same process to map.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "fakes/xen/ordinary_page.h"
#include "vtpm/xen/grant_share.h"

namespace vtpm::xen {

class FakeGrantShare final : public GrantShare {
  public:
    void refuse(bool refuses) { refuses_ = refuses; }

    Result<GrantedPage> share(DomainId) override {
        if (refuses_)
            return fail(Errc::io, "the fake has no more grants");
        const std::lock_guard lock(mutex_);
        const auto page = std::make_shared<OrdinaryPage>();
        pages_[++last_] = page;
        return GrantedPage{owner_of(page), last_};
    }

    // The back end's half. A grant stays mappable: ending it is not what is tested with this.
    Result<MappedPage> map(std::uint32_t ref) {
        const std::lock_guard lock(mutex_);
        const auto found = pages_.find(ref);
        if (found == pages_.end())
            return fail(Errc::malformed, "no such grant");
        return owner_of(found->second);
    }

  private:
    static MappedPage owner_of(const std::shared_ptr<OrdinaryPage>& page) {
        return {page->data(), [page](void*) {}};
    }

    std::mutex mutex_;
    std::map<std::uint32_t, std::shared_ptr<OrdinaryPage>> pages_;
    std::uint32_t last_ = 0;
    bool refuses_ = false;
};

}  // namespace vtpm::xen
