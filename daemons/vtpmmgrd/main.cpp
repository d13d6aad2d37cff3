// vtpmmgrd: the one process with the host's chip, the keys and the disk.
//
//   socket (systemd) -> Listener -> AdminSession  (vtpmctl, vtpmd: root only)
//                                -> EngineSession (one a running guest, bound to its instance)
//                                        -> SqliteVault -> /var/lib/xen-vtpm
//                                        -> HostChip    -> /dev/tpm0
#include <signal.h>
#include <systemd/sd-daemon.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>

#include "listener.h"
#include "manager.h"
#include "settings.h"
#include "version.h"
#include "vtpm/base/start.h"
#include "vtpm/chip/host_chip.h"
#include "vtpm/jail/harden.h"
#include "vtpm/vault/sqlite_vault.h"

namespace {
using namespace vtpm;  // NOLINT: a main file

// Housekeeping off the acknowledged path: checkpoints, and another look for a chip that was away.
void tick(boost::asio::steady_timer& timer, manager::Manager& manager) {
    timer.expires_after(std::chrono::seconds(5));
    timer.async_wait([&](const boost::system::error_code& error) {
        if (error)
            return;
        const auto status = manager.vault.status();
        if (status.phase == vault::Phase::open) {
            manager::commit_due(manager);  // says once what is in the way
            if (auto idle = manager.vault.idle(); !idle) {
                spdlog::warn("housekeeping: {}", idle.error().context);
            }
        } else {
            manager::look_again(manager);
        }
        tick(timer, manager);
    });
}

void serve(boost::asio::io_context& loop, manager::Manager& manager, Fd listening) {
    manager::Listener listener(loop, std::move(listening), manager);
    boost::asio::signal_set ends(loop, SIGTERM, SIGINT);
    ends.async_wait([&](const boost::system::error_code&, int) { loop.stop(); });
    boost::asio::steady_timer timer(loop);
    listener.start();
    tick(timer, manager);
    ::sd_notify(0, "READY=1");
    loop.run();
    ::sd_notify(0, "STOPPING=1");
}

}  // namespace

int main(int argc, char** argv) {
    std::string config = "/etc/xen-vtpm/vtpmmgrd.toml";
    CLI::App app("Owns the host's TPM and keeps the state of all guests' TPMs.", "vtpmmgrd");
    app.add_option("--config", config, "settings (TOML)")->capture_default_str();
    app.set_version_flag("--version", VTPM_VERSION);
    CLI11_PARSE(app, argc, argv);

    log::init("vtpmmgrd");
    ::signal(SIGPIPE, SIG_IGN);
    required(jail::forbid_core_dumps());
    required(jail::lock_memory());
    jail::wipe_freed_memory();
    required(jail::forbid_new_privileges());

    const auto settings = required(manager::read_settings(config));
    auto inherited = manager::take_inherited();
    auto listening =
        required(manager::listening_socket(std::move(inherited.socket), settings.socket));
    chip::HostChip chip(settings.tcti, settings.tpm12_owner_file);
    vault::SqliteVault vault(settings.state_dir, chip);
    boost::asio::io_context loop(1);  // outlives the sessions that holders and commits keep
    manager::Holders holders;
    manager::KeyKeeper keys(settings.boot_latch, std::move(inherited.stored));
    vault.keep_for_successor([&keys](const SecretBytes& bundle) { keys.keep_ahead(bundle); });
    vault.let_in_meanwhile([&loop] { return manager::serve_meanwhile(loop); });
    manager::Commits commits(vault);
    manager::Manager manager{settings, chip, vault, holders, keys, commits};
    manager::try_unlock(manager);
    if (vault.status().phase == vault::Phase::not_set_up) {
        if (const auto why = vault.unlock(); !why)  // and in status from now on
            spdlog::warn("this host is not set up: {}", why.error().context);
    }
    serve(loop, manager, std::move(listening));
    if (const auto closed = vault.close(); !closed) {
        spdlog::error("the last writes are not known to the chip yet: {}", closed.error().context);
    }
    return EXIT_SUCCESS;
}
