// PowerRecord: a file in /run that says "this device's TPM was powered on". It outlives vtpmd but
// not the host's boot. A vtpmd that finds one and no engine knows that volatile state was lost, and
// the TPM is then in failure mode, never a fresh one; unless the vtpmd before was stopped in order
// and says here under what label the vault has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "guest_device.h"
#include "vtpm/base/uuid.h"

namespace vtpm::doorman {

struct PutBy {
    std::uint64_t label = 0;
    std::uint32_t life = 0;  // the name of the domain's life, as LifeRecord has it; 0: none
    bool operator==(const PutBy&) const = default;
};

class PowerRecord {
  public:
    PowerRecord(const std::string& directory, GuestDevice guest)
        : path_(directory + "/powered-" + guest.to_string()) {}

    // Of this instance: a device may be detached and another instance attached in its place. A
    // record that cannot be read counts: better a TPM in failure mode than one that forgot.
    bool exists(const Uuid& instance) const;
    Result<void> write(const Uuid& instance, std::optional<PutBy> put_by = std::nullopt) const;
    std::optional<PutBy> put_by(const Uuid& instance) const;
    void remove() const;

  private:
    std::string path_;
};

}  // namespace vtpm::doorman
