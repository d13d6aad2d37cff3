// EventChannel: one bound event channel, seen from one end. A contract.
//
// The doorbell says only that somebody rang; what there is to do is on the ring page.
// notify() may be called from any thread, the rest belongs to the thread that polls fd().
#pragma once

#include "vtpm/base/result.h"

namespace vtpm::xen {

class EventChannel {
  public:
    virtual ~EventChannel() = default;

    virtual int fd() const = 0;  // readable when an event is pending
    virtual Result<void> notify() = 0;
    // Takes the pending event, if there is one, and lets the next one in. Never blocks. Look at
    // the ring after it, never before: an event that comes in between would be lost.
    virtual Result<void> consume() = 0;
};

}  // namespace vtpm::xen
