// vtpm-swtpm: the doorman of one TPM whose guest is not on a ring: it speaks swtpm's protocol with
// QEMU. It has no TPM code and no keys.
//
//   control channel --> ControlServer --> SocketTpm --> vtpm-swtpm-engine (one a power cycle)
//   data channel ---------- handed on ------------------^     +--> vtpmmgrd (holds the instance)
//
// Started as vtpm-swtpm@NAME.service, or as swtpm by QEMU's managers (swtpm_command_line.h).
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "descriptor_store.h"
#include "front.h"
#include "listener.h"
#include "options.h"
#include "pcr_banks.h"
#include "process_place.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/harden.h"

namespace {
using namespace vtpm;  // NOLINT: a main file

// Before any library starts a thread, so that only the loop gets them.
void block_termination_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::sigaddset(&set, SIGHUP);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

// For the engines, which lock their memory when they have no more right to. A service manager sets
// it; what starts us by hand does not.
void allow_locked_memory() {
    constexpr rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    (void)::setrlimit(RLIMIT_MEMLOCK, &all);
}

// What it was started with, or what listens at a path.
Fd listener_of(const swtpm::Endpoint& end) {
    if (!end.address)
        return Fd(end.listener);
    Fd listener = required(swtpm::listen_at(*end.address));
    swtpm::remove_at_exit(end.address->path);
    return listener;
}

swtpm::Sockets sockets_of(const swtpm::Options& options) {
    return {listener_of(options.control), Fd(options.control.peer), listener_of(options.data),
            Fd(options.data.peer)};
}

void check_version(const swtpm::Options& options, const swtpm::FoundInstance& instance) {
    if (options.version && *options.version != instance.tpm) {
        required(Result<void>(
            fail(Errc::invalid_argument,
                 instance.name + " is a TPM " + std::string(tpm::to_string(instance.tpm)))));
    }
}

// Nobody will ask for it, so there is no process without it.
void give_power(const swtpm::Options& options, swtpm::ControlServer& server) {
    if (options.at_start == swtpm::AtStart::nothing)
        return;
    const bool startup = options.at_start == swtpm::AtStart::power_and_startup;
    if (server.power_on(startup) != swtpm::result::success)
        required(Result<void>(fail(Errc::unavailable, "the TPM did not start, as said above")));
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = swtpm::options_of(argc, argv);
    if (options.as_swtpm)
        required(swtpm::take_place(options));
    log::init("vtpm-swtpm", options.as_swtpm ? log::Times::shown : log::Times::left_to_others);
    std::optional<swtpm::Background> background;
    if (options.in_background)
        background = required(swtpm::Background::enter());
    ::signal(SIGPIPE, SIG_IGN);
    const bool serves = options.banks.empty();
    if (serves)
        block_termination_signals();
    required(jail::forbid_core_dumps());
    allow_locked_memory();
    required(jail::lock_memory());

    // First, since who started us may not wait long for them; peers wait in their queues.
    auto sockets = sockets_of(options);
    const auto instance = required(swtpm::find_instance(options.manager, options.instance));
    check_version(options, instance);
    doorman::ManagerClient manager(options.manager,
                                   required(doorman::DescriptorStore::new_secret()));
    swtpm::SocketTpm tpm(instance, manager, required(swtpm::SeatNumber::take(options.run_dir)),
                         options.engine);
    if (!serves) {
        const auto set = swtpm::set_pcr_banks(tpm, instance, options.manager, options.banks);
        if (!set)
            spdlog::critical("the banks of PCRs stay as they are: {}", set.error().context);
        return set ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    swtpm::ControlServer server(tpm, options.server);
    required(tpm.begin());
    give_power(options, server);
    swtpm::Front front(tpm, server, std::move(sockets), options.ends);
    required(front.begin());
    required(swtpm::write_pid(options));
    if (background)
        background->ready(options.log_descriptor >= 0 || !options.log_file.empty());
    required(front.run());
    return EXIT_SUCCESS;
}
