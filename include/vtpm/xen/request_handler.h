// RequestHandler: who answers what comes over a ring. A contract; the ring does not know TPMs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtpm/base/bytes.h"

namespace vtpm::xen {

// Requests that the ring itself cannot deliver.
enum class RequestFault {
    empty,        // length 0
    too_long,     // longer than the page
    extra_pages,  // nobody maps extra pages (the protocol leaves it optional)
};

class RequestHandler {
  public:
    virtual ~RequestHandler() = default;

    // `request` is a private copy of 1 to 4088 bytes; the rest about it is for the handler to
    // check. Writes the answer and returns its size, at most response.size().
    virtual std::size_t handle(ByteView request, std::uint8_t locality,
                               MutableByteView response) = 0;
    // Writes what the guest is to get instead of an answer (a TPM error).
    virtual std::size_t refuse(RequestFault fault, MutableByteView response) = 0;
};

}  // namespace vtpm::xen
