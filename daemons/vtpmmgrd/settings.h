// What /etc/xen-vtpm/vtpmmgrd.toml may say. An unknown key or a wrong type is an error: a spelling
// mistake must not silently be the default.
#pragma once

#include <string>

#include "vtpm/base/result.h"
#include "vtpm/tpm/version.h"

namespace vtpm::manager {

struct Settings {
    std::string tcti = "device:/dev/tpm0";
    std::string tpm12_owner_file;  // empty: the well-known authorization value
    std::string state_dir = "/var/lib/xen-vtpm";
    std::string socket = "/run/xen-vtpm/manager.sock";  // only if systemd hands us none
    bool auto_create = false;
    bool boot_latch = true;  // close it once the keys are with systemd
    tpm::Version auto_create_tpm = tpm::Version::v1_2;
};

// A missing file means the defaults.
Result<Settings> read_settings(const std::string& path);
Result<Settings> parse_settings(std::string_view toml);

}  // namespace vtpm::manager
