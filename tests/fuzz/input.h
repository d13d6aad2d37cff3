// Input: the bytes of a fuzzer, read as a sequence of decisions.
//
// What is left when they run out is zeros, and zero is always the ordinary decision: most of what a
// fuzzer sends is valid, and the bytes say where it is not. One thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "vtpm/base/bytes.h"

namespace vtpm::fuzz {

// What must hold whatever comes in.
inline void must(bool holds, const char* what) {
    if (holds)
        return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    bool empty() const { return left_.empty(); }

    std::uint8_t u8() {
        if (left_.empty())
            return 0;
        const std::uint8_t value = left_.front();
        left_ = left_.subspan(1);
        return value;
    }
    std::uint16_t u16() { return static_cast<std::uint16_t>(u8() | (u8() << 8U)); }
    std::uint32_t u32() { return u16() | (static_cast<std::uint32_t>(u16()) << 16U); }
    std::uint64_t u64() { return u32() | (static_cast<std::uint64_t>(u32()) << 32U); }

    // 0 to n - 1.
    std::size_t pick(std::size_t n) { return n <= 256 ? u8() % n : u32() % n; }
    template <typename List>
    const auto& one_of(const List& list) {
        return list[pick(std::size(list))];
    }
    // True one time in sixteen.
    bool rarely() { return u8() >= 0xf0; }
    bool flag() { return (u8() & 1U) != 0; }

    // A number that is often at some edge.
    std::uint32_t edgy() {
        constexpr std::array<std::uint32_t, 16> edges = {
            0,    1,    9,    10,   127,    128,        255,        256,
            4087, 4088, 4089, 4096, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
        const std::uint8_t which = u8();
        return which < 0xc0 ? edges[which % edges.size()] : u32();
    }

    // Up to `limit` bytes.
    Bytes bytes(std::size_t limit) {
        const std::size_t wanted = limit < 256 ? u8() : u16();
        const auto taken = left_.first(std::min({wanted, limit, left_.size()}));
        left_ = left_.subspan(taken.size());
        return {taken.begin(), taken.end()};
    }
    std::string text(std::size_t limit) {
        const Bytes raw = bytes(limit);
        return {raw.begin(), raw.end()};
    }

    // `good` with something changed: a byte, a number, its end, a part of it.
    Bytes changed(Bytes good) {
        const std::size_t times = 1 + pick(4);
        for (std::size_t i = 0; i < times && !good.empty(); ++i) {
            const std::size_t at = u16() % good.size();
            const auto place = good.begin() + static_cast<std::ptrdiff_t>(at);
            switch (pick(6)) {
                case 0:
                    *place ^= static_cast<std::uint8_t>(1U << (u8() % 8));
                    break;
                case 1:
                    *place = u8();
                    break;
                case 2: {  // big-endian, as most of what we read
                    const std::uint32_t number = edgy();
                    for (std::size_t j = 0; j < 4 && at + j < good.size(); ++j)
                        good[at + j] = static_cast<std::uint8_t>(number >> (24 - 8 * j));
                    break;
                }
                case 3:
                    good.resize(at);
                    break;
                case 4: {
                    const Bytes more = bytes(64);
                    good.insert(place, more.begin(), more.end());
                    break;
                }
                default: {
                    const Bytes again(place,
                                      place + std::min<std::ptrdiff_t>(u8(), good.end() - place));
                    good.insert(good.end(), again.begin(), again.end());
                }
            }
        }
        return good;
    }
    Bytes rarely_changed(Bytes good) { return rarely() ? changed(std::move(good)) : good; }

  private:
    ByteView left_;
};

}  // namespace vtpm::fuzz
