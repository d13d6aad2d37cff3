#include "seat.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "allowed_calls.h"
#include "confinement.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/syscall_filter.h"
#include "vtpm/xen/grant_map.h"

namespace vtpm::engine_program {

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
    required(events_->restrict_to(arguments.domain));
    confine(arguments.uid, std::array{events_->fd()});
    ring_ = std::make_unique<xen::BackRing>(page_.page(), *events_);
    watcher_ = std::make_unique<CancelWatcher>(*ring_, *events_);
}

void Seat::allow_only_serving() {
    required(jail::install_filter(allowed_calls(events_->fd())));
}

}  // namespace vtpm::engine_program
