// FrontRing: the front end of one tpmif ring (xen/io/tpmif.h, protocol version 2).
//
// One command at a time. cancel() may come from a second thread while the first one waits; the
// rest belongs to one thread. The back end's header is not trusted either.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "vtpm/base/bytes.h"
#include "vtpm/xen/event_channel.h"
#include "vtpm/xen/shared_page.h"

namespace vtpm::xen {

class FrontRing {
  public:
    // Both must outlive the ring.
    FrontRing(SharedPage page, EventChannel& events) : page_(page), events_(events) {}

    // Errc::in_use while the back end still works on an earlier command.
    Result<void> submit(ByteView request, std::uint8_t locality);
    // The size of the answer in `response`, or nothing yet. Errc::unavailable: cancelled.
    Result<std::optional<std::size_t>> take(MutableByteView response);
    // take(), waiting for events. Errc::timeout leaves the command running: cancel() it, and
    // wait() again until it has ended.
    Result<std::size_t> wait(MutableByteView response, std::chrono::milliseconds timeout);
    // Asks for the end of the command in progress; on an idle ring the back end answers IDLE.
    Result<void> cancel();

    Result<std::size_t> transmit(ByteView request, std::uint8_t locality, MutableByteView response,
                                 std::chrono::milliseconds timeout);

  private:
    SharedPage page_;
    EventChannel& events_;
};

}  // namespace vtpm::xen
