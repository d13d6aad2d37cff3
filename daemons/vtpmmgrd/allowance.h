// Allowance: what one instance's engines may ask of the manager: work, commits to the chip, and
// lines in the journal.
//
// The engine is assumed to be conquered. It has one request under way at a time, so that the others
// wait for one of its writes at most; this bounds how often that is. A TPM in honest use stores
// something a few times a second. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "vtpm/base/rate_bound.h"

namespace vtpm::manager {

struct Allowance {
    using Clock = RateBound::Clock;
    static constexpr std::size_t unit = 16384;  // bytes; a TPM's state with some keys is smaller

    // 250 requests a second, or 4 MB; ten thousand in advance.
    RateBound work{10'000, std::chrono::milliseconds(4)};
    // Of an instance whose every write is committed to the chip, whose memory wears by that, and
    // which meanwhile serves nobody else: one a minute, two hundred in advance.
    RateBound proofs{200, std::chrono::minutes(1)};
    // Random numbers from the chip for an engine that starts. A guest can make one start a second.
    RateBound seeds{3, std::chrono::minutes(1)};
    // Ten lines a minute.
    RateBound words{10, std::chrono::seconds(6)};
    std::uint64_t unsaid = 0;  // lines that were left out since the last one

    void take_work(std::size_t bytes) {
        work.take(Clock::now(), static_cast<unsigned>(1 + bytes / unit));
    }
    // When its next request is looked at.
    Clock::time_point next_request() const {
        return std::max(work.allowed_from(), proofs.allowed_from());
    }
    // Nothing of it is used up: another one would be the same.
    bool whole(Clock::time_point now) const {
        return unsaid == 0 && work.whole(now) && proofs.whole(now) && seeds.whole(now) &&
               words.whole(now);
    }
};

}  // namespace vtpm::manager
