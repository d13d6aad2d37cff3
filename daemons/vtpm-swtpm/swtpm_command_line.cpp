#include "swtpm_command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <vector>

#include "state_directory.h"
#include "version.h"

namespace vtpm::swtpm {
namespace {

using Settings = std::map<std::string, std::string>;

// As they stand on the command line.
struct Words {
    std::string control, server, state, log, pid, locality, flags, key, migration_key, migration,
        seccomp, runas, own;
    int descriptor = -1;
    bool is_2_0 = false;
    bool terminate = false;
    bool capabilities = false;
};

[[noreturn]] void wrong(const std::string& option, const std::string& why) {
    throw CLI::ValidationError(option, why);
}

std::uint32_t number_of(const std::string& option, const std::string& text, int base = 10) {
    std::uint32_t number = 0;
    const char* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, number, base);
    if (read.ec != std::errc() || read.ptr != end || number > INT32_MAX)
        wrong(option, "not a number: " + text);
    return number;
}

// This runs before the process has opened anything: what is there was given, and only that.
int check_given(const std::string& option, int fd) {
    if (fd <= STDERR_FILENO || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        wrong(option, "descriptor " + std::to_string(fd) + " was not given");
    return fd;
}

int number_in(const std::string& option, const Settings& settings, const std::string& key) {
    const auto found = settings.find(key);
    return found == settings.end() ? -1 : static_cast<int>(number_of(option, found->second));
}

int descriptor_in(const std::string& option, const Settings& settings, const std::string& key) {
    const int fd = number_in(option, settings, key);
    return fd < 0 ? fd : check_given(option, fd);
}

std::optional<Address> address_of(const std::string& option, const Settings& settings) {
    const auto path = settings.find("path");
    if (path == settings.end())
        return std::nullopt;
    Address address{path->second};
    if (const auto mode = settings.find("mode"); mode != settings.end())
        address.mode = static_cast<mode_t>(number_of(option, mode->second, 8) & 0777U);
    if (const auto uid = settings.find("uid"); uid != settings.end())
        address.uid = static_cast<uid_t>(number_of(option, uid->second));
    if (const auto gid = settings.find("gid"); gid != settings.end())
        address.gid = static_cast<gid_t>(number_of(option, gid->second));
    return address;
}

Endpoint endpoint_of(const std::string& option, const Settings& settings) {
    const auto type = settings.find("type");
    if (type == settings.end() || type->second != "unixio")
        wrong(option, "only type=unixio is served");
    Endpoint end{address_of(option, settings), descriptor_in(option, settings, "fd"),
                 descriptor_in(option, settings, "clientfd")};
    if (end.address.has_value() + (end.listener >= 0) + (end.peer >= 0) != 1)
        wrong(option, "one of path, fd and clientfd is needed");
    return end;
}

void take_channels(const Words& words, Options& options) {
    if (!words.control.empty()) {
        const auto settings =
            settings_of("--ctrl", words.control,
                        {"type", "path", "fd", "clientfd", "mode", "uid", "gid", "terminate"});
        options.control = endpoint_of("--ctrl", settings);
        options.ends.with_control = settings.count("terminate") != 0 || options.control.peer >= 0;
    }
    if (!words.server.empty()) {
        const auto settings =
            settings_of("--server", words.server,
                        {"type", "path", "fd", "clientfd", "mode", "uid", "gid", "disconnect"});
        options.data = endpoint_of("--server", settings);
    }
    if (words.descriptor >= 0) {
        if (!words.server.empty())
            wrong("--fd", "with --server there would be two data channels");
        options.data.peer = check_given("--fd", words.descriptor);
    }
    options.ends.with_data = words.terminate || options.data.peer >= 0;
    std::vector<int> given;
    for (const auto* end : {&options.control, &options.data})
        given.insert(given.end(), {end->listener, end->peer});
    given.erase(std::remove(given.begin(), given.end(), -1), given.end());
    if (std::set<int>(given.begin(), given.end()).size() != given.size())
        wrong("--fd", "one descriptor for two channels");
    const auto nobody = [](const Endpoint& end) {
        return !end.address && end.listener < 0 && end.peer < 0;
    };
    if (nobody(options.control) && nobody(options.data))
        wrong("--ctrl", "it, --server or --fd is needed, or nobody can reach this TPM");
}

// dir=DIR or backend-uri=dir://DIR, or else the environment's, as swtpm has it.
std::string state_directory_of(const std::string& text) {
    const char* const there = std::getenv("TPM_PATH");
    if (text.empty() && there == nullptr)
        wrong("--tpmstate", "needed, or TPM_PATH in the environment");
    if (text.empty())
        return there;
    const auto settings =
        settings_of("--tpmstate", text, {"dir", "backend-uri", "mode", "lock", "fsync", "backup"});
    if (const auto dir = settings.find("dir"); dir != settings.end())
        return dir->second;
    const std::string scheme = "dir://";
    const auto uri = settings.find("backend-uri");
    if (uri == settings.end() || uri->second.compare(0, scheme.size(), scheme) != 0)
        wrong("--tpmstate", "only dir=DIR and backend-uri=dir://DIR are served");
    return uri->second.substr(scheme.size());
}

void take_flags(const Words& words, Options& options) {
    const auto flags =
        settings_of("--flags", words.flags,
                    {"not-need-init", "startup-clear", "startup-none", "disable-auto-shutdown",
                     "startup-state", "startup-deactivated"});
    if (flags.count("startup-state") + flags.count("startup-deactivated") != 0)
        wrong("--flags", "of the startups only startup-clear is served");
    if (flags.count("startup-clear") != 0)
        options.at_start = AtStart::power_and_startup;
    else if (flags.count("not-need-init") + flags.count("startup-none") != 0)
        options.at_start = AtStart::power;
    const auto locality =
        settings_of("--locality", words.locality, {"reject-locality-4", "allow-set-locality"});
    options.server.refuses_locality_4 = locality.count("reject-locality-4") != 0;
}

// The vault has its own keys. A key's file is removed all the same, if that is asked for.
bool take_key(const std::string& option, const std::string& text) {
    if (text.empty())
        return false;
    const auto settings = settings_of(
        option, text, {"file", "fd", "pwdfile", "pwdfd", "format", "mode", "remove", "kdf"});
    const auto remove = settings.find("remove");
    if (remove == settings.end() || remove->second == "false")
        return true;
    for (const auto* const key : {"file", "pwdfile"}) {
        if (const auto file = settings.find(key); file != settings.end())
            (void)::unlink(file->second.c_str());
    }
    return true;
}

void take(const Settings& settings, const std::string& key, std::string& into) {
    if (const auto found = settings.find(key); found != settings.end())
        into = found->second;
}

void take_places(const Words& words, Options& options) {
    const auto log = settings_of("--log", words.log, {"file", "fd", "level", "prefix", "truncate"});
    take(log, "file", options.log_file);
    options.log_descriptor = number_in("--log", log, "fd");
    const auto pid = settings_of("--pid", words.pid, {"file", "fd"});
    take(pid, "file", options.pid_file);
    options.pid_descriptor = number_in("--pid", pid, "fd");
    const auto own = settings_of("--xen-vtpm", words.own, {"manager", "engine", "run-dir"});
    take(own, "manager", options.manager);
    take(own, "engine", options.engine);
    take(own, "run-dir", options.run_dir);
}

Options options_from(const Words& words) {
    Options options;
    options.as_swtpm = true;
    const auto directory = state_directory_of(words.state);
    options.version = words.is_2_0 ? tpm::Version::v2_0 : tpm::Version::v1_2;
    const auto instance = instance_in(directory, *options.version);
    if (!instance)
        wrong("--tpmstate", instance.error().context);
    options.instance = *instance;
    options.server.instance_file = instance_file_in(directory, *options.version);
    options.server.volatile_file = volatile_file_in(directory, *options.version);
    take_channels(words, options);
    take_flags(words, options);
    if (!words.runas.empty() && words.runas != "root" && words.runas != "0")
        wrong("--runas", "it has to be root; the TPM itself has a uid of its own");
    take_places(words, options);
    // Last: what is refused removes no key.
    options.server.has_key = take_key("--key", words.key);
    options.server.has_migration_key = take_key("--migration-key", words.migration_key);
    return options;
}

void add_options(CLI::App& app, Words& words, Options& into) {
    app.add_option("--ctrl", words.control,
                   "type=unixio,path=P|fd=N|clientfd=N[,mode=,uid=,gid=]"
                   "[,terminate]: the control channel");
    app.add_option("--server", words.server,
                   "type=unixio,path=P|fd=N[,mode=,uid=,gid=]: the data channel");
    app.add_option("--fd", words.descriptor, "the data channel's descriptor");
    app.add_option("--tpmstate", words.state,
                   "dir=DIR: where swtpm_setup has left which TPM of the vault it is");
    app.add_flag("--tpm2", words.is_2_0, "it is a TPM 2.0, not 1.2");
    app.add_flag("-t,--terminate", words.terminate, "end with the data channel");
    app.add_flag("-d,--daemon", into.in_background, "go to the background once it can be reached");
    app.add_option("--flags", words.flags, "not-need-init[,startup-clear|startup-none]");
    app.add_option("--locality", words.locality, "reject-locality-4");
    app.add_option("--log", words.log, "file=F|fd=N[,level=]");
    app.add_option("--pid", words.pid, "file=F|fd=N");
    app.add_option("--seccomp", words.seccomp, "taken; the TPM's confinement cannot be changed");
    app.add_option("--runas", words.runas, "root; the TPM itself has a uid of its own");
    app.add_option("--key", words.key, "taken; the vault seals what it stores");
    app.add_option("--migration-key", words.migration_key,
                   "taken; a state blob holds nothing that has to be encrypted");
    app.add_option("--migration", words.migration,
                   "taken; the vault sees to it that one has the TPM");
    app.add_flag("--print-capabilities", words.capabilities, "in JSON");
    app.add_option("--xen-vtpm", words.own,
                   "manager=SOCKET,engine=PROGRAM,run-dir=DIR: not swtpm's");
}

void print_capabilities() {
    std::cout << R"({ "type": "swtpm", "features": [ "tpm-1.2", "tpm-2.0", "flags-opt-startup", )"
                 R"("cmdarg-seccomp", "cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-migration", )"
                 R"("nvram-backend-dir" ], "version": ")"
              << VTPM_VERSION << "\" }\n";
}

}  // namespace

bool started_as_swtpm(const char* program) {
    return std::filesystem::path(program).filename() == "swtpm";
}

Settings settings_of(const std::string& option, const std::string& text,
                     const std::set<std::string>& known) {
    Settings settings;
    for (const auto& item : CLI::detail::split(text, ',')) {
        if (item.empty())
            continue;
        const auto equals = item.find('=');
        const auto key = item.substr(0, equals);
        if (known.count(key) == 0)
            wrong(option, "'" + key + "' is not known");
        settings[key] = equals == std::string::npos ? "" : item.substr(equals + 1);
    }
    return settings;
}

Options parse_swtpm(CLI::App& app, int argc, const char* const* argv) {
    Words words;
    Options seen;
    app.set_version_flag("-v,--version", "TPM emulator version " VTPM_VERSION " (xen-vtpm)");
    app.require_subcommand(1);
    auto* const socket = app.add_subcommand("socket", "over UNIX sockets");
    add_options(*socket, words, seen);
    app.parse(argc, argv);
    if (words.capabilities) {
        print_capabilities();
        throw CLI::Success();
    }
    auto options = options_from(words);
    options.in_background = seen.in_background;
    return options;
}

Options swtpm_options_of(int argc, char** argv) {
    CLI::App app("Serves a TPM of xen-vtpm's vault in the place of swtpm.", "swtpm");
    try {
        return parse_swtpm(app, argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error));
    }
}

}  // namespace vtpm::swtpm
