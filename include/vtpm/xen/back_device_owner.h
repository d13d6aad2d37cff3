// BackDeviceOwner: what a BackDevice does to the world. A contract for vtpmd (and for tests).
//
// Calls come synchronously out of BackDevice's own calls, on its thread:
//     ( connect disconnect )*  power_off  gone
// connect and disconnect alternate; power_off and gone come once each, never while connected, and
// nothing comes after gone. None of them may call back into the BackDevice.
#pragma once

#include <cstdint>

#include "vtpm/base/result.h"
#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/domains.h"

namespace vtpm::xen {

struct RingAddress {
    DomainId domid = 0;
    std::uint32_t ring_ref = 0;
    std::uint32_t event_channel = 0;

    bool operator==(const RingAddress&) const = default;
};

class BackDeviceOwner {
  public:
    virtual ~BackDeviceOwner() = default;

    // Begin to serve this ring; look at it at once, the guest may have sent a command already. An
    // error leaves the device unconnected: NextAction::retry and retry_later are tried again some
    // seconds later, all others when the guest writes anew. Its text goes to xenstore's error node.
    virtual Result<void> connect(const RingAddress& ring) = 0;
    // Stop touching the ring; finish or drop what is in progress. The TPM keeps its state: the
    // guest may come back (module reload, kexec, resume) without a power cycle.
    virtual void disconnect() = 0;
    // The end of the guest's power. `last` is the last that was seen of the domain: the reason
    // tells suspend (save, migrate) from power-off; still running means that the device was
    // detached from a live guest.
    virtual void power_off(const DomainLife& last) = 0;
    // Nothing is left to do for this device; release the instance.
    virtual void gone() = 0;
};

}  // namespace vtpm::xen
