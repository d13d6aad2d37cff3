// vtpm-swtpm's command line: its own, or, under the name swtpm, that of the program which QEMU's
// managers start.
#pragma once

#include <optional>
#include <string>

#include "front.h"
#include "listener.h"
#include "vtpm/tpm/factory.h"
#include "vtpm/tpm/version.h"

namespace vtpm::swtpm {

// Where peers come from: a path to listen at, or what this process was started with.
struct Endpoint {
    std::optional<Address> address = {};
    int listener = -1;
    int peer = -1;  // a connection
};

// What the TPM gets before anybody asks.
enum class AtStart { nothing, power, power_and_startup };

struct Options {
    std::string instance;                      // a name, a uuid, or a unique prefix of one
    std::optional<tpm::Version> version = {};  // that it has to have
    std::string manager = "/run/xen-vtpm/manager.sock";
    std::string engine = "/usr/libexec/xen-vtpm/vtpm-swtpm-engine";
    std::string run_dir = "/run/xen-vtpm";
    Endpoint control = {};
    Endpoint data = {};
    Ends ends = {};
    AtStart at_start = AtStart::nothing;
    tpm::PcrBanks banks = {};  // to change, and nothing else to do
    ControlServer::Settings server = {};
    bool as_swtpm = false;       // started under its name
    bool in_background = false;  // once it can be reached
    std::string log_file;        // in the place of standard error
    int log_descriptor = -1;
    std::string pid_file;
    int pid_descriptor = -1;
};

// Ends the process if they are not right, and for --help and --version.
Options options_of(int argc, char** argv);

}  // namespace vtpm::swtpm
