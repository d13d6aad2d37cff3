// Clock: the time that the whole program sees in time(); a test moves it.
#pragma once

#include <ctime>

namespace vtpm::crash {

class Clock {
  public:
    static std::time_t now() { return now_; }
    static void pass(std::time_t seconds) { now_ += seconds; }

  private:
    static inline std::time_t now_ = 1'700'000'000;
};

}  // namespace vtpm::crash
