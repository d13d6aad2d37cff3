// SharedPage: a ring page that somebody else can write at any moment.
//
// Bytes are copied in and out; no reference into the page is ever given away, so nothing can be
// checked in one place and used in another. Every access is an atomic one, made exactly once per
// call: the compiler cannot read twice what was written once. Does not own the memory, which must
// outlive it (see MappedPage); may be used from several threads.
// Layout and ordering: xen/io/tpmif.h, and the front ends of Linux and Mini-OS.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtpm/base/bytes.h"
#include "vtpm/xen/tpmif.h"

namespace vtpm::xen {

class SharedPage {
  public:
    // `memory` is tpmif::page_size bytes at an address divisible by 8.
    explicit SharedPage(void* memory);

    // All eight header bytes in one acquiring load.
    tpmif::Header header() const;
    std::uint8_t state() const;  // acquiring

    // Publishes what was written before: a release store, then a full barrier, so that a
    // notification sent next cannot overtake it.
    void publish(std::uint8_t state);
    // The same, but only if the state still is `expected`.
    bool replace_state(std::uint8_t expected, std::uint8_t desired);

    void set_length(std::uint32_t length);
    void set_locality(std::uint8_t locality);

    // `offset` counts from the first byte after the header. Both are cut at the end of the page;
    // what they return is the number of bytes copied.
    std::size_t copy_in(std::size_t offset, MutableByteView destination) const;
    std::size_t copy_out(std::size_t offset, ByteView source);

    void wipe_packet();  // everything after the header

  private:
    std::uint8_t* bytes_;
};

}  // namespace vtpm::xen
