// How often some bytes lie in this process's writable memory: for tests that a secret was wiped.
//
// The caller's own copy counts. Mappings of more than 64 MiB (sanitizers' shadows) are left out.
#pragma once

#include <fcntl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <string>

#include "vtpm/base/bytes.h"
#include "vtpm/base/fd.h"

namespace vtpm::fakes {

inline int in_memory(ByteView needle) {
    std::ifstream maps("/proc/self/maps");
    // Not a stream: its buffer would be a copy.
    const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    int found = 0;
    for (std::string line; std::getline(maps, line);) {
        if (line.find(" rw") == std::string::npos)
            continue;
        const auto dash = line.find('-');
        const auto first = std::stoull(line.substr(0, dash), nullptr, 16);
        const auto last = std::stoull(line.substr(dash + 1), nullptr, 16);
        if (last - first > 64U * 1024U * 1024U)
            continue;
        // Read in pieces to a static buffer that is skipped, so that no copy is found.
        static std::array<std::uint8_t, 4096 + 64> piece;
        for (auto at = first; at < last; at += 4096) {
            const auto base = reinterpret_cast<std::uintptr_t>(piece.data());
            if (at + 4096 + 64 > base && at < base + piece.size())
                continue;
            const auto size = std::min<std::uint64_t>(piece.size(), last - at);
            if (::pread(memory.get(), piece.data(), size, static_cast<off_t>(at)) !=
                static_cast<ssize_t>(size))
                continue;
            auto from = piece.begin();
            const auto end = piece.begin() + static_cast<std::ptrdiff_t>(size);
            while ((from = std::search(from, end, needle.begin(), needle.end())) != end) {
                if (from - piece.begin() < 4096)
                    ++found;
                ++from;
            }
        }
        OPENSSL_cleanse(piece.data(), piece.size());
    }
    return found;
}

}  // namespace vtpm::fakes
