// PowerRecord: a file in /run that says "this device's TPM was powered on". It outlives vtpmd but
// not the host's boot. A vtpmd that finds one and no engine knows that volatile state was lost: the
// TPM is then in failure mode, never a fresh one.
#pragma once

#include <string>

#include "guest_device.h"
#include "vtpm/base/uuid.h"

namespace vtpm::doorman {

class PowerRecord {
  public:
    PowerRecord(const std::string& directory, GuestDevice guest)
        : path_(directory + "/powered-" + guest.to_string()) {}

    // Of this instance: a device may be detached and another instance attached in its place. A
    // record that cannot be read counts: better a TPM in failure mode than one that forgot.
    bool exists(const Uuid& instance) const;
    Result<void> write(const Uuid& instance) const;
    void remove() const;

  private:
    std::string path_;
};

}  // namespace vtpm::doorman
