#include "options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "version.h"

namespace vtpm::front {
namespace {

constexpr std::string_view prefix = "vtpm-";
constexpr std::size_t max_digits = 9;

std::string check_device(const std::string& device) {
    const bool fits = device.starts_with(prefix) && device.size() > prefix.size() &&
                      device.size() <= prefix.size() + max_digits &&
                      device.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
    return fits ? "" : "not a vtpm device's name, such as vtpm-0";
}

}  // namespace

Options options_of(int argc, char** argv) {
    Options options;
    CLI::App app("Gives this guest's kernel the TPM 2.0 of a Xen vtpm device.", "vtpm-front");
    app.add_option("device", options.device, "its name in /sys/bus/xen/devices: vtpm-0")
        ->required()
        ->check(CLI::Validator(check_device, "vtpm-NUMBER"));
    app.add_option("--run-dir", options.run_dir, "where the next vtpm-front finds this one")
        ->capture_default_str();
    app.add_flag("--background", options.background, "return when the TPM is there");
    app.set_version_flag("--version", VTPM_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& wrong) {
        std::exit(app.exit(wrong));
    }
    options.number = options.device.substr(prefix.size());
    return options;
}

}  // namespace vtpm::front
