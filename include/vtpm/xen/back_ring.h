// BackRing: the back end of one tpmif ring (xen/io/tpmif.h, protocol version 2).
//
//   page state   what serve() does
//   SUBMIT       copies the request once, has it answered, writes the answer in place, FINISH,
//   event CANCEL       nothing runs (a command in progress ends in FINISH by itself): IDLE, event
//   IDLE, FINISH nothing
//   others       IDLE, event: a front end that broke the protocol must not wait for ever
//
// Every SUBMIT ends in FINISH, also one that is refused. Nothing read from the page in one call is
// believed in the next. Owned by the process that serves the guest; serve() and close() belong to
// one thread, cancel_requested() to any.
#pragma once

#include <array>
#include <cstdint>

#include "vtpm/base/result.h"
#include "vtpm/xen/event_channel.h"
#include "vtpm/xen/request_handler.h"
#include "vtpm/xen/shared_page.h"

namespace vtpm::xen {

enum class Served {
    nothing,
    command,  // look again: the guest may have sent the next one before our event reached it
};

class BackRing {
  public:
    // Both must outlive the ring.
    BackRing(SharedPage page, EventChannel& events) : page_(page), events_(events) {}
    ~BackRing();
    BackRing(const BackRing&) = delete;
    BackRing& operator=(const BackRing&) = delete;

    // One look at the page, one command at most. Call it after consume(), and once after binding:
    // a SUBMIT may be older than the binding. The only error is that the guest cannot be notified;
    // the answer is on the page nevertheless.
    Result<Served> serve(RequestHandler& handler);

    // While handle() runs on another thread: does the guest want the command to end?
    bool cancel_requested() const { return page_.state() == tpmif::state::cancel; }

    // The connection is over: leaves no request or answer on the page. Not for handing the ring to
    // a successor, whose guest may not have read its answer yet.
    void close() { page_.wipe_packet(); }

  private:
    Result<Served> answer(RequestHandler& handler, const tpmif::Header& header);
    std::size_t run(RequestHandler& handler, const tpmif::Header& header, MutableByteView response);
    Result<Served> settle(std::uint8_t seen);

    SharedPage page_;
    EventChannel& events_;
    std::array<std::uint8_t, tpmif::max_packet> request_{};
    std::array<std::uint8_t, tpmif::max_packet> response_{};
};

}  // namespace vtpm::xen
