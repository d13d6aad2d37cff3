// One descriptor beside a byte of a stream (SCM_RIGHTS, unix(7)). One thread.
#pragma once

#include <sys/socket.h>

#include <array>

#include "vtpm/base/bytes.h"
#include "vtpm/base/fd.h"

namespace vtpm {

// A msghdr whose pointers stay valid as long as the object; not movable.
class DescriptorMessage {
  public:
    // For sending `bytes` with `descriptor`, or (descriptor -1) for receiving into `bytes`.
    DescriptorMessage(MutableByteView bytes, int descriptor);
    DescriptorMessage(const DescriptorMessage&) = delete;
    DescriptorMessage& operator=(const DescriptorMessage&) = delete;

    msghdr* header() { return &header_; }
    Fd take_received();  // none if none came, or several, which are closed

  private:
    iovec part_;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control_{};
    msghdr header_{};
};

}  // namespace vtpm
