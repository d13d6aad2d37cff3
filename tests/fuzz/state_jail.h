// What the fuzzer of states and its worker in the jail say to each other, over a socket that is the
// worker's descriptor 3: a case goes in as its size (native u32) and its bytes, one End comes out.
#pragma once

#include <cstdint>

#include "vtpm/base/bytes.h"

namespace vtpm::fuzz {

struct End {
    enum class How : std::uint32_t { lived, fault };
    How how = How::lived;
    std::uint32_t in_libtpms = 0;  // of a fault: the instruction is libtpms' own
    std::uint64_t at = 0;          // the address that was touched
    std::uint64_t offset = 0;      // the instruction's, from where libtpms is loaded
};

template <typename Object>
MutableByteView bytes_of(Object& object) {
    return {reinterpret_cast<std::uint8_t*>(&object), sizeof object};  // NOLINT
}

}  // namespace vtpm::fuzz
