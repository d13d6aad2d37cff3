// FakeEventChannel: one end of an event channel inside one process. Like Xen's, events coalesce,
// and ringing at an end that nobody holds is no error.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <memory>
#include <utility>

#include "vtpm/base/fd.h"
#include "vtpm/xen/event_channel.h"

namespace vtpm::xen {

class FakeEventChannel final : public EventChannel {
  public:
    static std::pair<std::unique_ptr<FakeEventChannel>, std::unique_ptr<FakeEventChannel>> pair() {
        const auto one = bell();
        const auto other = bell();
        return {std::make_unique<FakeEventChannel>(one, other),
                std::make_unique<FakeEventChannel>(other, one)};
    }

    using Bell = std::shared_ptr<Fd>;
    static Bell bell() { return std::make_shared<Fd>(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }
    FakeEventChannel(Bell mine, Bell theirs) : mine_(std::move(mine)), theirs_(std::move(theirs)) {}

    void fail_notify(bool fails) { notify_fails_ = fails; }
    unsigned notified() const { return notified_; }

    int fd() const override { return mine_->get(); }
    Result<void> notify() override {
        ++notified_;
        if (notify_fails_)
            return fail(Errc::io, "the fake event channel says no");
        ::eventfd_write(theirs_->get(), 1);
        return {};
    }
    Result<void> consume() override {
        eventfd_t ignored = 0;
        ::eventfd_read(mine_->get(), &ignored);
        return {};
    }

  private:
    Bell mine_;
    Bell theirs_;
    std::atomic<unsigned> notified_ = 0;
    std::atomic<bool> notify_fails_ = false;
};

}  // namespace vtpm::xen
