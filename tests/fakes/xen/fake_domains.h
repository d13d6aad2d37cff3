// FakeDomains: lives of domains, as a test wants them. A domain never mentioned is gone.
#pragma once

#include <map>

#include "vtpm/xen/domains.h"

namespace vtpm::xen {

class FakeDomains final : public Domains {
  public:
    void set(DomainId domid, DomainState state, std::optional<ShutdownReason> reason = {}) {
        lives_[domid] = DomainLife{state, reason};
    }
    void count(DomainId domid, std::uint32_t incarnation) { incarnations_[domid] = incarnation; }
    void fail_call(unsigned nth) { fail_in_ = nth; }  // 1 is the next one

    Result<DomainLife> look(DomainId domid) override {
        if (fail_in_ != 0 && --fail_in_ == 0)
            return fail(Errc::io, "the fake Xen says no");
        const auto found = lives_.find(domid);
        if (found == lives_.end())
            return DomainLife{DomainState::gone, std::nullopt};
        return found->second;
    }
    Result<std::uint32_t> incarnation(DomainId domid) override {
        if (fail_in_ != 0 && --fail_in_ == 0)
            return fail(Errc::io, "the fake Xen says no");
        const auto found = incarnations_.find(domid);
        return found == incarnations_.end() ? 1 : found->second;
    }
    Result<void> set_incarnation(DomainId domid, std::uint32_t incarnation) override {
        if (fail_in_ != 0 && --fail_in_ == 0)
            return fail(Errc::io, "the fake Xen says no");
        incarnations_[domid] = incarnation;
        return {};
    }

  private:
    std::map<DomainId, DomainLife> lives_;
    std::map<DomainId, std::uint32_t> incarnations_;
    unsigned fail_in_ = 0;
};

}  // namespace vtpm::xen
