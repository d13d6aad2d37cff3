// BusyWait: looks for what is about to come for a while, before its thread goes to sleep for it.
//
// A processor that has gone to sleep takes tens of microseconds to wake, on a virtual machine as
// long as much of what is waited for. What came late once is slept for until it has come soon
// `proofs` times: a slow disk, a slow peer or a busy processor makes nobody spin. One thread.
#pragma once

#include <chrono>

namespace vtpm {

class BusyWait {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr int proofs = 8;

    // longest: 0 for a thread that sleeps at once.
    explicit BusyWait(std::chrono::microseconds longest) : longest_(longest) {}

    // Whether look() said true in time. If not, sleep, and then say came().
    template <typename Look>
    bool until(Look look) {
        began_ = Clock::now();
        if (longest_.count() == 0 || wanted_ > 0)
            return false;
        do {
            if (look())
                return true;
        } while (Clock::now() - began_ < longest_);
        return false;
    }
    void came() {
        if (Clock::now() - began_ >= longest_)
            wanted_ = proofs;
        else if (wanted_ > 0)
            --wanted_;
    }

  private:
    std::chrono::microseconds longest_;
    Clock::time_point began_{};
    int wanted_ = 0;  // proofs that what comes comes soon
};

}  // namespace vtpm
