// vtpm-swtpm: the doorman of one TPM whose guest is not on a ring: it speaks swtpm's protocol with
// QEMU. It has no TPM code and no keys.
//
//   control channel --> ControlServer --> SocketTpm --> vtpm-swtpm-engine (one a power cycle)
//   data channel ---------- handed on ------------------^     +--> vtpmmgrd (holds the instance)
//
// Started as vtpm-swtpm@NAME.service.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

#include "descriptor_store.h"
#include "front.h"
#include "listener.h"
#include "options.h"
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
    ::signal(SIGPIPE, SIG_IGN);
}

// For the engines, which lock their memory when they have no more right to. A service manager sets
// it; what starts us by hand does not.
void allow_locked_memory() {
    constexpr rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    (void)::setrlimit(RLIMIT_MEMLOCK, &all);
}

swtpm::Sockets sockets_of(const swtpm::Options& options) {
    swtpm::Sockets sockets;
    if (options.control)
        sockets.control_listener = required(swtpm::listen_at(*options.control));
    if (options.data)
        sockets.data_listener = required(swtpm::listen_at(*options.data));
    return sockets;
}

void remove_sockets(const swtpm::Options& options) {
    for (const auto& address : {options.control, options.data}) {
        if (address)
            (void)::unlink(address->path.c_str());
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = swtpm::options_of(argc, argv);
    log::init("vtpm-swtpm");
    block_termination_signals();
    required(jail::forbid_core_dumps());
    allow_locked_memory();
    required(jail::lock_memory());

    const auto instance = required(swtpm::find_instance(options.manager, options.instance));
    doorman::ManagerClient manager(options.manager,
                                   required(doorman::DescriptorStore::new_secret()));
    swtpm::SocketTpm tpm(instance, manager, required(swtpm::SeatNumber::take(options.run_dir)),
                         options.engine);
    swtpm::ControlServer server(tpm, options.volatile_file);
    required(tpm.begin());
    swtpm::Front front(tpm, server, sockets_of(options), options.stays);
    const auto ended = front.run();
    remove_sockets(options);
    required(ended);
    return EXIT_SUCCESS;
}
