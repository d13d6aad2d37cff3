#include "options.h"

#include <grp.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <vector>

#include "swtpm_command_line.h"
#include "version.h"

namespace vtpm::swtpm {
namespace {

constexpr mode_t group_mode = 0660;

std::optional<gid_t> group_of(const std::string& name) {
    const group* const found = ::getgrnam(name.c_str());
    if (found == nullptr)
        return std::nullopt;
    return found->gr_gid;
}

}  // namespace

Options options_of(int argc, char** argv) {
    if (started_as_swtpm(argv[0]))
        return swtpm_options_of(argc, argv);
    Options options;
    bool stays = false;
    std::string control;
    std::string data;
    std::string group;
    std::vector<std::string> banks;
    CLI::App app("Serves one TPM to QEMU in swtpm's protocol.", "vtpm-swtpm");
    app.add_option("instance", options.instance, "its name or uuid")->required();
    app.add_option("--manager", options.manager, "vtpmmgrd's socket")->capture_default_str();
    app.add_option("--engine", options.engine, "the engine's program")->capture_default_str();
    app.add_option("--run-dir", options.run_dir, "for what outlives this process")
        ->capture_default_str();
    auto* const ctrl_option =
        app.add_option("--ctrl", control, "control socket (RUN_DIR/swtpm/INSTANCE.sock)");
    auto* const data_option =
        app.add_option("--data", data, "data socket, for peers that send no SET_DATAFD (none)");
    auto* const group_option = app.add_option("--group", group, "who may connect, beside root");
    auto* const stay_option =
        app.add_flag("--stay", stays, "after SHUTDOWN, wait for the next machine");
    app.add_option("--set-pcr-banks", banks,
                   "serve nobody: the TPM 2.0, whose machine is off, has these from its next start")
        ->delimiter(',')
        ->excludes(ctrl_option)
        ->excludes(data_option)
        ->excludes(group_option)
        ->excludes(stay_option);
    app.set_version_flag("--version", VTPM_VERSION);
    try {
        app.parse(argc, argv);
        if (!banks.empty()) {
            const auto parsed = tpm::parse_pcr_banks(banks);
            if (!parsed)
                throw CLI::ValidationError("--set-pcr-banks", parsed.error().context);
            options.banks = *parsed;
            return options;
        }
        Address address{control.empty() ? options.run_dir + "/swtpm/" + options.instance + ".sock"
                                        : control};
        if (!group.empty()) {
            address.gid = group_of(group);
            address.mode = group_mode;
            if (!address.gid)
                throw CLI::ValidationError("--group", "no such group: " + group);
        }
        options.control.address = address;
        if (!data.empty()) {
            address.path = data;
            options.data.address = address;
        }
    } catch (const CLI::ParseError& wrong) {
        std::exit(app.exit(wrong));
    }
    options.ends.with_shutdown = !stays;
    options.server.volatile_file = options.control.address->path + ".volatile";
    return options;
}

}  // namespace vtpm::swtpm
