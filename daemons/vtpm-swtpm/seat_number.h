// SeatNumber: a number that no other vtpm-swtpm on this host has while this one lives, held by a
// lock on a file in /run. The manager knows a holder by it, and the engine's uid comes from it:
// guests outside Xen sit above the numbers that Xen gives to domains.
#pragma once

#include <string>

#include "guest_device.h"
#include "vtpm/base/fd.h"

namespace vtpm::swtpm {

class SeatNumber {
  public:
    static constexpr std::uint32_t first = 0x8000;
    static constexpr std::uint32_t count = 4096;

    // Errc::unavailable if all are taken.
    static Result<SeatNumber> take(const std::string& directory);

    doorman::GuestDevice guest() const { return {first + number_, 0}; }

  private:
    SeatNumber(std::uint32_t number, Fd lock) : number_(number), lock_(std::move(lock)) {}

    std::uint32_t number_;
    Fd lock_;
};

}  // namespace vtpm::swtpm
