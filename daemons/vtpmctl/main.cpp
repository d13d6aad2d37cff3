// vtpmctl: what a person types. It knows the manager's socket and nothing of keys, TPMs or Xen.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "commands.h"
#include "doctor.h"
#include "import_swtpm.h"
#include "version.h"

namespace {
using namespace vtpm;           // NOLINT: a main file
using namespace vtpm::control;  // NOLINT

constexpr int bad_command_line = 2;

struct Arguments {
    std::string socket = "/run/xen-vtpm/manager.sock";
    Output output;
    SetupOptions setup;
    std::string recovery_key;
    CreateOptions create;
    ImportSwtpmOptions import_swtpm;
    std::string selector;
    std::string new_name;
    bool yes = false;
};

void describe_import_swtpm(CLI::App& app, ImportSwtpmOptions& options) {
    auto* import = app.add_subcommand("import-swtpm",
                                      "make a TPM for a guest out of one that swtpm has served");
    import->add_option("DIRECTORY", options.source, "swtpm's state directory, or its file")
        ->required();
    import->add_option("--name", options.name, "what you will call it")->required();
    import->add_option("--tpm", options.tpm, "1.2 or 2.0, if the directory has both")
        ->check(CLI::IsMember({"1.2", "2.0"}));
    import->add_option("--uuid", options.uuid, "the uuid that the guest's file has already");
    auto* key = import->add_option("--key", options.key,
                                   "the key of an encrypted state, described as for swtpm: "
                                   "FILE[,format=hex|binary][,mode=aes-cbc|aes-256-cbc]");
    import
        ->add_option("--pwdfile", options.passphrase,
                     "or its passphrase: FILE[,kdf=pbkdf2|sha512][,mode=aes-cbc|aes-256-cbc]")
        ->excludes(key);
}

void describe_commands(CLI::App& app, Arguments& a) {
    app.add_option("--socket", a.socket, "vtpmmgrd's socket")->capture_default_str();
    app.add_flag("--json", a.output.json, "print JSON");
    app.set_version_flag("--version", VTPM_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    const auto by_name = [&](CLI::App* command) {
        command->add_option("NAME", a.selector, "a name, a uuid, or the beginning of a uuid")
            ->required();
    };

    auto* setup = app.add_subcommand("setup", "make this host ready: keys, sealed to its TPM");
    auto* out = setup->add_option("--recovery-out", a.setup.recovery_out,
                                  "make a recovery key and write it to this new file");
    setup
        ->add_flag("--replace-recovery-key", a.setup.replace_key,
                   "on a host that is set up: in place of the recovery key it has")
        ->needs(out);
    auto* create = app.add_subcommand("create", "make a TPM for a guest");
    create->add_option("--name", a.create.name, "what you will call it")->required();
    create->add_option("--tpm", a.create.tpm, "1.2 or 2.0")
        ->check(CLI::IsMember({"1.2", "2.0"}))
        ->capture_default_str();
    create->add_option("--uuid", a.create.uuid, "the uuid that the guest's file has already");
    create->add_flag("--sync", a.create.sync,
                     "every write is committed to the chip before the guest gets its answer; wears "
                     "the chip");
    describe_import_swtpm(app, a.import_swtpm);
    app.add_subcommand("list", "all TPMs of this host");
    by_name(app.add_subcommand("show", "one of them"));
    auto* rename = app.add_subcommand("rename", "give one another name");
    by_name(rename);
    rename->add_option("NEW-NAME", a.new_name, "its new name")->required();
    auto* remove = app.add_subcommand("delete", "destroy one and everything in it");
    by_name(remove);
    remove->add_flag("--yes", a.yes, "yes, destroy it");
    auto* recover = app.add_subcommand(
        "recover", "take what is on the disk for the newest state, and this chip for its own");
    recover->add_option("--recovery-key", a.recovery_key, "the file that setup wrote it to");
    recover->add_flag("--yes", a.yes, "yes: newer states, if there were any, are lost");
    app.add_subcommand("status", "the manager, its vault and the host's TPM");
    app.add_subcommand("doctor", "look for what is wrong with this host's set-up");
}

Result<void> run(const std::string& command, const Arguments& a) {
    VTPM_TRY(auto manager, ManagerConnection::open(a.socket));
    if (command == "setup")
        return setup(manager, a.setup, a.output);
    if (command == "create")
        return create(manager, a.create, a.output);
    if (command == "import-swtpm")
        return import_swtpm(manager, a.import_swtpm, a.output);
    if (command == "list")
        return list(manager, a.output);
    if (command == "show")
        return show(manager, a.selector, a.output);
    if (command == "rename")
        return rename(manager, a.selector, a.new_name, a.output);
    if (command == "delete")
        return control::remove(manager, a.selector, a.output);
    if (command == "recover")
        return recover(manager, a.recovery_key, a.output);
    return status(manager, a.output);
}

// The error, and what to do about it.
std::string advice(const Error& error) {
    switch (error.code) {
        case Errc::not_set_up:
            return "run: vtpmctl setup";
        case Errc::unavailable:
            return "try: systemctl start vtpmmgrd.socket; then: vtpmctl doctor";
        case Errc::permission:
            return "run it as root";
        case Errc::locked:
        case Errc::not_approved:
        case Errc::latched:
            return "see: vtpmctl status; nothing was changed";
        case Errc::wrong_chip:
            return "nothing was changed. If the mainboard is a new one: vtpmctl recover "
                   "--recovery-key FILE --yes";
        case Errc::wrong_cell:
        case Errc::rolled_back:
            return "see: vtpmctl status; nothing was changed. If you know that what is on the disk "
                   "is what you want: vtpmctl recover --recovery-key FILE --yes";
        default:
            return "";
    }
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app("TPMs for Xen guests, sealed to this host's TPM.", "vtpmctl");
    describe_commands(app, arguments);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : bad_command_line;
    }
    ::signal(SIGPIPE, SIG_IGN);
    const std::string command = app.get_subcommands().front()->get_name();
    if (command == "doctor") {
        return report(examine(arguments.socket), arguments.output.json) ? 0 : 1;
    }
    if (command == "delete" && !arguments.yes) {
        std::cerr << "vtpmctl: delete destroys everything in " << arguments.selector
                  << " for good; add --yes\n";
        return bad_command_line;
    }
    if (command == "recover" && !arguments.yes) {
        std::cerr << "vtpmctl: recover takes what is on the disk for the newest state: what was "
                     "written after it is lost for good. See: vtpmctl status. Then add --yes\n";
        return bad_command_line;
    }
    const auto done = run(command, arguments);
    if (done)
        return 0;
    std::cerr << "vtpmctl: " << done.error().context << "\n";
    if (const auto hint = advice(done.error()); !hint.empty()) {
        std::cerr << "vtpmctl: " << hint << "\n";
    }
    return exit_code(done.error());
}
