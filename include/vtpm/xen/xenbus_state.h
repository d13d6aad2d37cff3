// What the two ends of a split device write into their `state` nodes: xen/io/xenbus.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vtpm::xen {

enum class XenbusState : std::uint8_t {
    initialising = 1,
    init_wait = 2,
    initialised = 3,
    connected = 4,
    closing = 5,
    closed = 6,
};

// Exactly one digit, 1 to 6. Everything else (0, 7, 8, " 4", "04", nothing) is no state for us.
std::optional<XenbusState> parse_xenbus_state(std::string_view text);
std::string to_string(XenbusState state);

}  // namespace vtpm::xen
