#include "options.h"

#include <grp.h>

#include <CLI/CLI.hpp>
#include <cstdlib>

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
    CLI::App app("Serves one TPM to QEMU in swtpm's protocol.", "vtpm-swtpm");
    app.add_option("instance", options.instance, "its name or uuid")->required();
    app.add_option("--manager", options.manager, "vtpmmgrd's socket")->capture_default_str();
    app.add_option("--engine", options.engine, "the engine's program")->capture_default_str();
    app.add_option("--run-dir", options.run_dir, "for what outlives this process")
        ->capture_default_str();
    app.add_option("--ctrl", control, "control socket (RUN_DIR/swtpm/INSTANCE.sock)");
    app.add_option("--data", data, "data socket, for peers that send no SET_DATAFD (none)");
    app.add_option("--group", group, "who may connect, beside root");
    app.add_flag("--stay", stays, "after SHUTDOWN, wait for the next machine");
    app.set_version_flag("--version", VTPM_VERSION);
    try {
        app.parse(argc, argv);
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
