// RateBound: at most `burst` of something at once and one more every `interval`; what keeps a peer
// that asks thousands of times from making work at that rate. One thread.
#pragma once

#include <algorithm>
#include <chrono>

namespace vtpm {

class RateBound {
  public:
    using Clock = std::chrono::steady_clock;

    RateBound(unsigned burst, Clock::duration interval)
        : interval_(interval), slack_((burst - 1) * interval) {}

    bool allows(Clock::time_point now) const { return now >= allowed_from(); }
    Clock::time_point allowed_from() const { return full_at_ - slack_; }
    bool whole(Clock::time_point now) const { return now >= full_at_; }  // all of the burst is left
    // `times`: what was allowed turned out to be worth that many.
    void take(Clock::time_point now, unsigned times = 1) {
        full_at_ = std::max(full_at_, now) + times * interval_;
    }

  private:
    Clock::duration interval_;
    Clock::duration slack_;
    Clock::time_point full_at_{};  // when the whole burst is available again
};

}  // namespace vtpm
