#include "guest_device.h"

#include <charconv>

namespace vtpm::doorman {
namespace {

constexpr std::uint32_t max_domain = 0x7FEF;
constexpr std::uint32_t max_device = 255;

bool parse_number(std::string_view text, std::uint32_t limit, std::uint32_t& number) {
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    const bool canonical = text.size() == 1 || (!text.empty() && text[0] != '0');
    return error == std::errc() && stop == end && canonical && number <= limit;
}

}  // namespace

Result<GuestDevice> GuestDevice::parse(std::string_view text) {
    GuestDevice guest;
    const auto dash = text.find('-');
    if (dash == std::string_view::npos ||
        !parse_number(text.substr(0, dash), max_domain, guest.domain) ||
        !parse_number(text.substr(dash + 1), max_device, guest.device)) {
        return fail(Errc::invalid_argument, "a guest's device is DOMID-DEVID, like 5-0 (at most " +
                                                std::to_string(max_domain) + "-" +
                                                std::to_string(max_device) + ")");
    }
    return guest;
}

std::string GuestDevice::to_string() const {
    return std::to_string(domain) + "-" + std::to_string(device);
}

}  // namespace vtpm::doorman
