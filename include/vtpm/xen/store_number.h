// Numbers that the other side wrote into the store: ring-ref, event-channel, frontend-id.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace vtpm::xen {

// 1 to 10 decimal digits within 32 bits; no sign, no blank, no other base.
std::optional<std::uint32_t> parse_store_number(std::string_view text);

}  // namespace vtpm::xen
