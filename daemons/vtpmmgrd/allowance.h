// Allowance: what one instance's engines may ask of the manager: work, and lines in the journal.
//
// The engine is assumed to be conquered. It has one request under way at a time, so that the others
// wait for one of its writes at most; this bounds how often that is. A TPM in honest use stores
// something a few times a second. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtpm/base/rate_bound.h"

namespace vtpm::manager {

struct Allowance {
    static constexpr std::size_t unit = 16384;  // bytes; a TPM's state with some keys is smaller

    // 250 requests a second, or 4 MB; ten thousand in advance.
    RateBound work{10'000, std::chrono::milliseconds(4)};
    // Ten lines a minute.
    RateBound words{10, std::chrono::seconds(6)};
    std::uint64_t unsaid = 0;  // lines that were left out since the last one

    void take_work(std::size_t bytes) {
        work.take(RateBound::Clock::now(), static_cast<unsigned>(1 + bytes / unit));
    }
};

}  // namespace vtpm::manager
