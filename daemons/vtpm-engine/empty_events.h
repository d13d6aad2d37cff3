// EmptyEvents: how long the guest's bell is not listened to, because it keeps ringing for nothing.
//
// A guest can send events faster than we take them. While an event is not taken, its port stays
// masked and the next ones cost the guest a hypercall and us nothing. An honest guest rings once a
// command, now and then for one that was seen already, and never many times in a row for nothing.
#pragma once

#include <chrono>

namespace vtpm::engine_program {

class EmptyEvents {
  public:
    using Clock = std::chrono::steady_clock;

    // As often as Linux's driver looks for its answer: nobody's command takes longer for it.
    static constexpr std::chrono::milliseconds pause{5};

    // An event was taken, and there was a command on the page or there was none.
    void taken(bool command, Clock::time_point now) {
        in_a_row_ = command ? 0 : in_a_row_ + 1;
        if (in_a_row_ <= tolerated)
            return;
        in_a_row_ = tolerated;
        deaf_until_ = now + pause;
    }
    Clock::time_point deaf_until() const { return deaf_until_; }

  private:
    static constexpr unsigned tolerated = 32;

    unsigned in_a_row_ = 0;
    Clock::time_point deaf_until_{};
};

}  // namespace vtpm::engine_program
