// vtpm-engine: one guest's TPM, and nothing else. It acquires, confines itself, serves.
//
//   guest's ring page + event channel --> BackRing --> CommandServer --> LibtpmsEngine
//                                                            |
//   descriptor 3: vtpmd (orders)          descriptor 4: vtpmmgrd (state, bound to this instance)
//
// Started by vtpmd, as root, in a PID namespace of its own; of no use by hand.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>

#include "allowed_calls.h"
#include "cancel_watcher.h"
#include "service.h"
#include "state_client.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/jail/confine.h"
#include "vtpm/jail/harden.h"
#include "vtpm/xen/grant_map.h"
#include "vtpm/xen/libxen_event_channel.h"

namespace {
using namespace vtpm;  // NOLINT: a main file

constexpr int doorman_fd = 3;
constexpr int manager_fd = 4;
// Measured: a 2.0 TPM at work needs under 3 MiB beyond the libraries; the rest is room for RSA.
constexpr std::size_t data_limit = 64UL * 1024 * 1024;

struct Arguments {
    std::uint32_t domain = 0;
    std::uint32_t ring_ref = 0;
    std::uint32_t event_channel = 0;
    std::uint32_t uid = 0;
};

void confine(const Arguments& arguments, int event_channel_fd) {
    engine::LibtpmsEngine::warm_up();
    required(jail::lock_memory());
    const std::array keep = {doorman_fd, manager_fd, event_channel_fd};
    required(jail::close_descriptors_except(keep));
    required(jail::empty_namespaces());
    required(jail::limit_resources(data_limit));
    required(jail::become_user(arguments.uid, arguments.uid));
    required(jail::forbid_core_dumps());
    required(jail::forbid_new_privileges());
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app("Serves one guest's TPM; started by vtpmd.", "vtpm-engine");
    app.add_option("--domain", arguments.domain, "the guest")->required();
    app.add_option("--ring-ref", arguments.ring_ref, "grant of its ring page")->required();
    app.add_option("--event-channel", arguments.event_channel, "its event channel")->required();
    app.add_option("--uid", arguments.uid, "user and group to become")->required();
    app.set_version_flag("--version", VTPM_VERSION);
    CLI11_PARSE(app, argc, argv);

    log::init("vtpm-engine");
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);

    auto page = required(xen::map_grant(arguments.domain, arguments.ring_ref));
    auto events =
        required(xen::LibxenEventChannel::bind(arguments.domain, arguments.event_channel));
    required(events->restrict_to(arguments.domain));

    confine(arguments, events->fd());
    xen::BackRing ring(page.page(), *events);
    engine_program::CancelWatcher watcher(ring, *events);
    required(jail::install_filter(engine_program::allowed_calls(events->fd())));

    wire::Channel doorman{Fd(doorman_fd)};
    engine_program::StateClient state{Fd(manager_fd)};
    const auto ended = engine_program::Service({*events, ring, watcher}, doorman, state).run();
    if (!ended)
        spdlog::error("engine ends: {}", ended.error().context);
    // No destructors: what they would close or unmap is the kernel's to clean up, and the jail
    // allows no more than serving needed.
    std::_Exit(ended ? EXIT_SUCCESS : EXIT_FAILURE);
}
