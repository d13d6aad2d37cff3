// vtpmd: the doorman of one guest's TPM device. It knows xenstore and the engine's life; it has no
// TPM code and no keys.
//
//   xenstore --> BackDevice --> GuestTpm --> vtpm-engine (one a ring connection)
//                                  +-------> vtpmmgrd (holds the instance)
//
// Started by the hotplug script as vtpmd@DOMID-DEVID.service.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "doorman.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/harden.h"
#include "vtpm/xen/libxen_domains.h"
#include "vtpm/xen/libxen_store.h"

namespace {
using namespace vtpm;  // NOLINT: a main file

// As in vtpmd@.service: systemd starts the next one, unless it is what has stopped this one.
constexpr int stopped_early = 75;

// Before any library starts a thread, so that only the loop gets them.
void block_termination_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    for (const int useless : {SIGPIPE, SIGHUP})
        ::signal(useless, SIG_IGN);
}

}  // namespace

int main(int argc, char** argv) {
    std::string which;
    std::string socket = "/run/xen-vtpm/manager.sock";
    std::string engine = "/usr/libexec/xen-vtpm/vtpm-engine";
    std::string run_dir = "/run/xen-vtpm";
    CLI::App app("Serves one guest's TPM device; started by the hotplug script.", "vtpmd");
    app.add_option("device", which, "DOMID-DEVID")->required();
    app.add_option("--manager", socket, "vtpmmgrd's socket")->capture_default_str();
    app.add_option("--engine", engine, "the engine's program")->capture_default_str();
    app.add_option("--run-dir", run_dir, "for what outlives this process")->capture_default_str();
    app.set_version_flag("--version", VTPM_VERSION);
    CLI11_PARSE(app, argc, argv);

    log::init("vtpmd");
    block_termination_signals();
    required(jail::forbid_core_dumps());
    required(jail::lock_memory());
    const auto guest = required(doorman::GuestDevice::parse(which));
    auto store = required(xen::LibxenStore::open());
    auto domains = required(xen::LibxenDomains::open());

    auto left = doorman::DescriptorStore::inherited();
    doorman::ManagerClient manager(socket, required(left.secret()));
    const doorman::PowerRecord record(run_dir, guest);
    const doorman::LifeRecord life(run_dir, guest.domain);
    doorman::GuestTpm tpm(guest, manager, engine, record, life, left);
    xen::BackDevice device(*store, *domains, tpm, guest.domain, guest.device);
    doorman::Doorman loop(*store, device, tpm, manager, guest, record, *domains, life);
    required(loop.run());
    if (loop.left_engine())
        return EXIT_FAILURE;
    return loop.stopped() ? stopped_early : EXIT_SUCCESS;
}
