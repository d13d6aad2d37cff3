// CancelBell: vtpm-swtpm's wish that the command that runs be cancelled: a count of such wishes,
// and an eventfd that is rung after each, for who waits.
#pragma once

#include <unistd.h>

#include "cancel_watcher.h"
#include "vtpm/base/shared_count.h"

namespace vtpm::swtpm_engine {

class CancelBell : public engine_program::CancelWatcher::Source {
  public:
    CancelBell(SharedCount wishes, Fd event)
        : wishes_(std::move(wishes)), event_(std::move(event)) {}

    int fd() const override { return event_.get(); }
    Result<void> consume() override {
        std::uint64_t rung = 0;
        (void)!::read(event_.get(), &rung, sizeof(rung));
        return {};
    }
    bool cancel_requested() const override { return wishes_.value() != forgotten_; }

    // No command runs: what was wished for was for none, or for one that is over. Costs no system
    // call: it is done after each command.
    void forget() { forgotten_ = wishes_.value(); }

  private:
    SharedCount wishes_;
    Fd event_;  // non-blocking
    std::atomic<std::uint64_t> forgotten_ = 0;
};

}  // namespace vtpm::swtpm_engine
