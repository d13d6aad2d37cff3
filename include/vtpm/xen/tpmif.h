// The page that a TPM front end and back end share: tpmif protocol version 2, xen/io/tpmif.h.
//
// Own constants instead of Xen's header: its prose puts the packet at byte 16, while its structure,
// Linux and Mini-OS agree on 8 (sizeof the header) plus 4 per extra page.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vtpm::xen::tpmif {

inline constexpr std::size_t page_size = 4096;

// Native byte order; the packet that follows is big-endian (TCG).
struct Header {
    std::uint32_t length;  // of the packet, both ways
    std::uint8_t state;
    std::uint8_t locality;
    std::uint8_t pad;
    std::uint8_t nr_extra_pages;  // that many grant references lie before the packet
};
static_assert(sizeof(Header) == 8);
static_assert(offsetof(Header, length) == 0);
static_assert(offsetof(Header, state) == 4);
static_assert(offsetof(Header, locality) == 5);
static_assert(offsetof(Header, pad) == 6);
static_assert(offsetof(Header, nr_extra_pages) == 7);

inline constexpr std::size_t max_packet = page_size - sizeof(Header);  // without extra pages
static_assert(max_packet == 4088);

// The front end writes only submit and cancel, the back end only idle and finish.
namespace state {
inline constexpr std::uint8_t idle = 0;
inline constexpr std::uint8_t submit = 1;
inline constexpr std::uint8_t finish = 2;
inline constexpr std::uint8_t cancel = 3;
}  // namespace state

}  // namespace vtpm::xen::tpmif
