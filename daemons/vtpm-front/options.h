// What a person or a unit types. One thread.
#pragma once

#include <string>

namespace vtpm::front {

struct Options {
    std::string device;  // as in /sys/bus/xen/devices: "vtpm-0"
    std::string number;  // "0"
    std::string run_dir = "/run/vtpm-front";
    bool background = false;
};

// Ends the process if there is nothing to do, or it makes no sense.
Options options_of(int argc, char** argv);

}  // namespace vtpm::front
