// CancelBell: an eventfd that the front rings when the guest wants its command to end.
#pragma once

#include <unistd.h>

#include <atomic>

#include "cancel_watcher.h"

namespace vtpm::swtpm_engine {

class CancelBell : public engine_program::CancelWatcher::Source {
  public:
    explicit CancelBell(int event) : event_(event) {}

    int fd() const override { return event_; }
    Result<void> consume() override {
        if (take())
            rung_ = true;
        return {};
    }
    bool cancel_requested() const override { return rung_; }

    // No command runs: what was rung was for none, or for one that is over.
    void forget() {
        (void)take();
        rung_ = false;
    }

  private:
    bool take() const {
        std::uint64_t count = 0;
        return ::read(event_, &count, sizeof(count)) == sizeof(count);
    }

    int event_;  // non-blocking
    std::atomic<bool> rung_ = false;
};

}  // namespace vtpm::swtpm_engine
