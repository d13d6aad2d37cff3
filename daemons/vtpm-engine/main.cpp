// vtpm-engine: one guest's TPM, and nothing else. It acquires, confines itself, serves.
//
//   guest's ring page + event channel --> BackRing --> CommandServer --> LibtpmsEngine
//                                                            |
//   descriptor 3: vtpmd (orders)          descriptor 4: vtpmmgrd (state, bound to this instance)
//
// Started by vtpmd, as root, in a PID namespace of its own; of no use by hand.
#include <cstdlib>

#include "seat.h"
#include "service.h"
#include "state_client.h"
#include "vtpm/base/log.h"

int main(int argc, char** argv) {
    using namespace vtpm;  // NOLINT: a main file
    using engine_program::Seat;
    const auto arguments = engine_program::arguments_of(argc, argv);
    log::init("vtpm-engine");

    Seat seat(arguments);
    seat.allow_only_serving();

    wire::Channel doorman{Fd(Seat::doorman_fd)};
    engine_program::StateClient state{Fd(Seat::manager_fd)};
    const engine_program::Ring ring{seat.events(), seat.ring(), seat.watcher()};
    const auto ended = engine_program::Service(ring, doorman, state).run();
    if (!ended)
        spdlog::error("engine ends: {}", ended.error().context);
    // No destructors: what they would close or unmap is the kernel's to clean up, and the jail
    // allows no more than serving needed.
    std::_Exit(ended ? EXIT_SUCCESS : EXIT_FAILURE);
}
