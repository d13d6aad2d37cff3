// vtpm-swtpm-engine: vtpm-engine for a guest that is not on a ring: the same TPM, jail and channel
// to the manager, with a socket in the ring's place.
//
//   QEMU's data channel --> DataChannel --> CommandServer --> LibtpmsEngine
//                                                |
//   descriptor 3: vtpm-swtpm (orders)     descriptor 4: vtpmmgrd (state, bound to this instance)
//
// Started by vtpm-swtpm, as root, in a PID namespace of its own; of no use by hand.
#include <CLI/CLI.hpp>
#include <cstdlib>

#include "allowed_calls.h"
#include "confinement.h"
#include "socket_service.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/syscall_filter.h"

namespace {
using namespace vtpm;  // NOLINT: a main file

constexpr std::chrono::seconds first_order_time{30};

// The first orders, and the only ones that are taken outside the jail: the front is trusted.
Result<Fd> given_for_cancel(wire::Channel& doorman) {
    VTPM_TRY(auto frame, doorman.receive_with_descriptor(first_order_time));
    VTPM_TRY(const auto order, wire::parse<wire::proto::Order>(frame));
    if (!order.has_cancel_bell() || !frame.descriptor.valid())
        return fail(Errc::malformed, "the first orders must be CancelBell");
    return std::move(frame.descriptor);
}

Result<std::unique_ptr<swtpm_engine::CancelBell>> cancel_bell(wire::Channel& doorman) {
    VTPM_TRY(auto count, given_for_cancel(doorman));
    VTPM_TRY(auto wishes, SharedCount::watch(std::move(count)));
    VTPM_TRY(auto event, given_for_cancel(doorman));
    return std::make_unique<swtpm_engine::CancelBell>(std::move(wishes), std::move(event));
}

}  // namespace

int main(int argc, char** argv) {
    std::uint32_t uid = 0;
    std::string tpm_version;
    CLI::App app("Serves one guest's TPM; started by vtpm-swtpm.", "vtpm-swtpm-engine");
    app.add_option("--uid", uid, "user and group to become")->required();
    app.add_option("--tpm", tpm_version, "1.2 or 2.0")->required();
    app.set_version_flag("--version", VTPM_VERSION);
    CLI11_PARSE(app, argc, argv);
    log::init("vtpm-swtpm-engine");

    const auto version = required(tpm::parse_version(tpm_version));
    wire::Channel doorman{Fd(engine_program::doorman_fd)};
    auto source = required(cancel_bell(doorman));
    auto& bell = *source;
    const int bell_fd = bell.fd();
    engine_program::confine(uid, {&bell_fd, 1});
    engine_program::CancelWatcher watcher(std::move(source));
    required(jail::install_filter(engine_program::allowed_calls()));

    engine_program::StateClient state{Fd(engine_program::manager_fd)};
    swtpm_engine::SocketService service(version, bell, watcher, doorman, state);
    const auto ended = service.run();
    if (!ended)
        spdlog::error("engine ends: {}", ended.error().context);
    // No destructors: what they would close is the kernel's to clean up, and the jail allows no
    // more than serving needed.
    std::_Exit(ended ? EXIT_SUCCESS : EXIT_FAILURE);
}
