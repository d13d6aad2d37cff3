// PowerRecord: a file in /run that says "this device's TPM was powered on", and what the next vtpmd
// has to know to go on with it. It outlives vtpmd but not the host's boot. A vtpmd that finds one,
// but neither its engine nor, in the vault, what was put by, knows that volatile state was lost:
// the TPM is then in failure mode, never a fresh one.
#pragma once

#include <cstdint>
#include <string>

#include "guest_device.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"

namespace vtpm::doorman {

// What the engine that was started last was given.
enum class PoweredAs {
    begun,      // a TPM that begins with it, or that was put by
    continued,  // the memory of the engine before it
    failed,
};

struct Powered {
    Uuid instance;
    tpm::Version tpm = tpm::Version::v2_0;
    unsigned engine =
        0;  // its number, counted from 1 by the vtpmds of the device; 0: none is known
    std::uint32_t ring_ref = 0;
    std::uint32_t event_channel = 0;
    PoweredAs as = PoweredAs::begun;
    bool suspended = false;  // the domain was seen so when this was written
    std::uint32_t life = 0;  // the name of the domain's life; 0: none, or the TPM may not have it
    std::uint64_t label =
        0;  // under this the TPM may be put by, if the engine is gone; 0: it is not
    bool operator==(const Powered&) const = default;
};

class PowerRecord {
  public:
    PowerRecord(const std::string& directory, GuestDevice guest)
        : path_(directory + "/powered-" + guest.to_string()) {}

    // Of this instance: a device may be detached and another instance attached in its place. A
    // record that cannot be read counts: better a TPM in failure mode than one that forgot.
    bool exists(const Uuid& instance) const;
    // Errc::not_found: there is none. Errc::corrupt, too_large: it says nothing. Anything else may
    // change. Of one that another version of vtpmd has written, only what all of them write is
    // known.
    Result<Powered> read() const;
    // As a whole or not at all, whenever we die.
    Result<void> write(const Powered& powered) const;
    void remove() const;

  private:
    std::string path_;
};

}  // namespace vtpm::doorman
