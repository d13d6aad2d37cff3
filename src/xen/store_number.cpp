#include "vtpm/xen/store_number.h"

#include <algorithm>
#include <charconv>

namespace vtpm::xen {

std::optional<std::uint32_t> parse_store_number(std::string_view text) {
    constexpr std::size_t max_digits = 10;
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (text.empty() || text.size() > max_digits)
        return std::nullopt;
    if (!std::all_of(text.begin(), text.end(), is_digit))
        return std::nullopt;
    std::uint32_t number = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
    if (parsed.ec != std::errc())
        return std::nullopt;  // out of range
    return number;
}

}  // namespace vtpm::xen
