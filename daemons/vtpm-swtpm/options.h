// vtpm-swtpm's command line.
#pragma once

#include <optional>
#include <string>

#include "front.h"
#include "listener.h"

namespace vtpm::swtpm {

struct Options {
    std::string instance;  // a name, a uuid, or a unique prefix of one
    std::string manager = "/run/xen-vtpm/manager.sock";
    std::string engine = "/usr/libexec/xen-vtpm/vtpm-swtpm-engine";
    std::string run_dir = "/run/xen-vtpm";
    std::string volatile_file;  // for the ticket of STORE_VOLATILE
    std::optional<Address> control;
    std::optional<Address> data;
    bool stays = false;
};

// Ends the process if they are not right, and for --help and --version.
Options options_of(int argc, char** argv);

}  // namespace vtpm::swtpm
