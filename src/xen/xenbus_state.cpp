#include "vtpm/xen/xenbus_state.h"

namespace vtpm::xen {

std::optional<XenbusState> parse_xenbus_state(std::string_view text) {
    if (text.size() != 1 || text[0] < '1' || text[0] > '6')
        return std::nullopt;
    return static_cast<XenbusState>(text[0] - '0');
}

std::string to_string(XenbusState state) {
    return std::to_string(static_cast<int>(state));
}

}  // namespace vtpm::xen
