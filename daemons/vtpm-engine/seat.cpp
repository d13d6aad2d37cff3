#include "seat.h"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>

#include "allowed_calls.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/jail/confine.h"
#include "vtpm/jail/harden.h"
#include "vtpm/xen/grant_map.h"

namespace vtpm::engine_program {
namespace {

// Measured: a 2.0 TPM at work needs under 3 MiB beyond the libraries; the rest is room for RSA.
constexpr std::size_t data_limit = 64UL * 1024 * 1024;

void confine(std::uint32_t uid, int event_channel_fd) {
    engine::LibtpmsEngine::warm_up();
    required(jail::lock_memory());
    const std::array keep = {Seat::doorman_fd, Seat::manager_fd, event_channel_fd};
    required(jail::close_descriptors_except(keep));
    required(jail::empty_namespaces());
    required(jail::limit_resources(data_limit));
    required(jail::become_user(uid, uid));
    required(jail::forbid_core_dumps());
    required(jail::forbid_new_privileges());
}

}  // namespace

Arguments arguments_of(int argc, char** argv) {
    Arguments arguments;
    CLI::App app("Serves one guest's TPM; started by vtpmd.", "vtpm-engine");
    app.add_option("--domain", arguments.domain, "the guest")->required();
    app.add_option("--ring-ref", arguments.ring_ref, "grant of its ring page")->required();
    app.add_option("--event-channel", arguments.event_channel, "its event channel")->required();
    app.add_option("--uid", arguments.uid, "user and group to become")->required();
    app.set_version_flag("--version", VTPM_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& wrong) {
        std::exit(app.exit(wrong));
    }
    return arguments;
}

Seat::Seat(const Arguments& arguments)
    : page_(required(xen::map_grant(arguments.domain, arguments.ring_ref))),
      events_(required(xen::LibxenEventChannel::bind(arguments.domain, arguments.event_channel))) {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    required(events_->restrict_to(arguments.domain));
    confine(arguments.uid, events_->fd());
    ring_ = std::make_unique<xen::BackRing>(page_.page(), *events_);
    watcher_ = std::make_unique<CancelWatcher>(*ring_, *events_);
}

void Seat::allow_only_serving() {
    required(jail::install_filter(allowed_calls(events_->fd())));
}

}  // namespace vtpm::engine_program
