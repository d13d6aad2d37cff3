// GuestDevice: which device of which domain a vtpmd serves, from its unit's instance name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vtpm/base/result.h"

namespace vtpm::doorman {

struct GuestDevice {
    std::uint32_t domain = 0;
    std::uint32_t device = 0;

    // "DOMID-DEVID" in decimal; a domain is at most 0x7FEF (xen.h, DOMID_FIRST_RESERVED), a device
    // at most 255 so that every pair has a user id of its own.
    static Result<GuestDevice> parse(std::string_view text);
    std::string to_string() const;  // "DOMID-DEVID"

    // The uid and gid of this device's engine: from the range that systemd's "Users, Groups, UIDs
    // and GIDs" leaves unused (1879048192 to 2147483647), so that no two engines share one.
    std::uint32_t engine_uid() const { return 0x70000000U + (domain << 8U) + device; }
};

}  // namespace vtpm::doorman
