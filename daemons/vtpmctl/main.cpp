// vtpmctl: what a person types. It knows the manager's messages and nothing of TPMs or Xen; of keys
// only those that a person hands it, for as long as it takes to pass them on or to sign.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <functional>
#include <iostream>
#include <map>

#include "command_line.h"
#include "doctor.h"
#include "qemu_arguments.h"

namespace {
using namespace vtpm;           // NOLINT: a main file
using namespace vtpm::control;  // NOLINT

constexpr int bad_command_line = 2;

using Verb = std::function<Result<void>(ManagerConnection&, const Arguments&)>;

const std::map<std::string, Verb>& verbs() {
    using Manager = ManagerConnection;
    static const std::map<std::string, Verb> all = {
        {"setup", [](Manager& m, const Arguments& a) { return setup(m, a.setup, a.output); }},
        {"create", [](Manager& m, const Arguments& a) { return create(m, a.create, a.output); }},
        {"import-swtpm",
         [](Manager& m, const Arguments& a) { return import_swtpm(m, a.import_swtpm, a.output); }},
        {"list",
         [](Manager& m, const Arguments& a) {
             WatchOptions options = a.watch;
             options.socket = a.socket;
             return options.watch ? watch(m, options, a.output) : list(m, a.output);
         }},
        {"show", [](Manager& m, const Arguments& a) { return show(m, a.selector, a.output); }},
        {"qemu", [](Manager& m, const Arguments& a) { return qemu(m, a.selector, a.output); }},
        {"rename", [](Manager& m,
                      const Arguments& a) { return rename(m, a.selector, a.new_name, a.output); }},
        {"sync",
         [](Manager& m, const Arguments& a) { return set_sync(m, a.selector, a.sync, a.output); }},
        {"policy",
         [](Manager& m, const Arguments& a) { return policy(m, a.selector, a.policy, a.output); }},
        {"delete",
         [](Manager& m, const Arguments& a) { return control::remove(m, a.selector, a.output); }},
        {"rotate", [](Manager& m, const Arguments& a) { return rotate(m, a.rotate, a.output); }},
        {"recover",
         [](Manager& m, const Arguments& a) { return recover(m, a.recovery_key, a.output); }},
        {"unlock",
         [](Manager& m, const Arguments& a) { return unlock(m, a.recovery_key, a.output); }},
        {"check-recovery-key",
         [](Manager& m, const Arguments& a) {
             return check_recovery_key(m, a.recovery_key, a.output);
         }},
        {"approver",
         [](Manager& m, const Arguments& a) {
             return set_approver(m, a.group, a.approver, a.output);
         }},
        {"approve this-boot",
         [](Manager& m, const Arguments& a) { return approve_this_boot(m, a.approve, a.output); }},
        {"approve next",
         [](Manager& m, const Arguments& a) { return approve_next(m, a.approve, a.output); }},
        {"approve import",
         [](Manager& m, const Arguments& a) { return approve_import(m, a.import, a.output); }},
        {"approve list", [](Manager& m, const Arguments& a) { return approve_list(m, a.output); }},
        {"revoke", [](Manager& m, const Arguments& a) { return revoke(m, a.force, a.output); }},
        {"group create",
         [](Manager& m, const Arguments& a) {
             return group_create(m, a.selector, a.approver, a.output);
         }},
        {"group list", [](Manager& m, const Arguments& a) { return group_list(m, a.output); }},
        {"group show",
         [](Manager& m, const Arguments& a) { return group_show(m, a.selector, a.output); }},
        {"group open",
         [](Manager& m, const Arguments& a) { return group_open(m, a.selector, a.output); }},
        {"group close",
         [](Manager& m, const Arguments& a) { return group_close(m, a.selector, a.output); }},
        {"group delete",
         [](Manager& m, const Arguments& a) { return group_delete(m, a.selector, a.output); }},
        {"ticket", [](Manager& m, const Arguments& a) { return ticket(m, a.transfer, a.output); }},
        {"export",
         [](Manager& m, const Arguments& a) { return export_instance(m, a.transfer, a.output); }},
        {"import",
         [](Manager& m, const Arguments& a) { return import_package(m, a.transfer, a.output); }},
        {"snapshot",
         [](Manager& m, const Arguments& a) { return take_snapshot(m, a.snapshot, a.output); }},
        {"snapshots",
         [](Manager& m, const Arguments& a) { return list_snapshots(m, a.snapshot, a.output); }},
        {"delete-snapshot",
         [](Manager& m, const Arguments& a) { return delete_snapshot(m, a.snapshot, a.output); }},
        {"revert",
         [](Manager& m, const Arguments& a) { return control::revert(m, a.snapshot, a.output); }},
        {"clone",
         [](Manager& m, const Arguments& a) { return control::clone(m, a.snapshot, a.output); }},
        {"backup", [](Manager& m, const Arguments& a) { return backup(m, a.transfer, a.output); }},
        {"log", [](Manager& m, const Arguments& a) { return control::log(m, a.after, a.output); }},
        {"status", [](Manager& m, const Arguments& a) { return status(m, a.output); }},
    };
    return all;
}

Result<void> run(const std::string& command, const Arguments& arguments) {
    VTPM_TRY(auto manager, ManagerConnection::open(arguments.socket));
    return verbs().at(command)(manager, arguments);
}

// Recovery keys, approvers' keys and passphrases go into no core file and, if we may lock memory
// (as root, which alone is served), not into swap.
void keep_secrets_in_memory() {
    const rlimit none{0, 0};
    (void)::setrlimit(RLIMIT_CORE, &none);
    (void)::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 && ::geteuid() == 0)
        std::cerr << "vtpmctl: warning: memory cannot be locked, so that keys may reach swap\n";
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
    const std::string command = command_of(app);
    keep_secrets_in_memory();
    if (command == "doctor")
        return report(examine(arguments.socket), arguments.output.json) ? 0 : 1;
    if (const auto why = objection(command, arguments)) {
        std::cerr << "vtpmctl: " << *why << "\n";
        return bad_command_line;
    }
    const auto done = run(command, arguments);
    if (done)
        return 0;
    std::cerr << "vtpmctl: " << done.error().context << "\n";
    if (const auto hint = advice(done.error()); !hint.empty())
        std::cerr << "vtpmctl: " << hint << "\n";
    return exit_code(done.error());
}
