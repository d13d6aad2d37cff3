// vtpm-front: runs in a guest, and gives its kernel a TPM 2.0 whose commands go over the ring of
// the guest's Xen vtpm device. The kernel's own driver of that device knows TPM 1.2 only.
//
//   /dev/tpm0, /dev/tpmrm0 --> /dev/vtpmx --> ProxyChip --> ChipRelay --> FrontDevice --> dom0
//
// Started by udev as vtpm-front@vtpm-0.service, and by the initramfs.
#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <array>
#include <cstdlib>

#include "background.h"
#include "chip_relay.h"
#include "descriptor_shelf.h"
#include "kernel_driver.h"
#include "options.h"
#include "stale_channel.h"
#include "vtpm/base/start.h"
#include "vtpm/jail/harden.h"
#include "vtpm/tpm/message.h"
#include "vtpm/xen/libxen_event_ports.h"
#include "vtpm/xen/libxen_grant_share.h"
#include "vtpm/xen/libxen_store.h"

namespace {
using namespace vtpm;  // NOLINT: a main file
using namespace std::chrono_literals;

// The host's daemons may be starting too, and a new TPM is made first.
constexpr auto back_end_patience = 120s;
// Less than the one who has left us the TPM waits for us (ChipRelay::heir_patience).
constexpr auto heir_patience = 10s;

// Before any library starts a thread, so that only the loop gets them.
Result<Fd> termination_signals() {
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    Fd signals(::signalfd(-1, &set, SFD_CLOEXEC));
    if (!signals.valid())
        return fail_errno("signalfd", errno);
    return signals;
}

// An initramfs's systemd kills what it has started when it makes way for the real root's, but for
// this: https://systemd.io/ROOT_STORAGE_DAEMONS/
void outlive_initramfs(char* name) {
    if (::access("/etc/initrd-release", F_OK) == 0)
        name[0] = '@';
}

Result<void> leave_tpm_12_to_kernel(xen::FrontDevice& device) {
    VTPM_TRY(const auto version, device.tpm_version(back_end_patience));
    if (version == "2.0")
        return {};
    spdlog::info("the device is {}: left to the kernel's driver",
                 version == "1.2" ? "a TPM 1.2" : "a TPM of a version that the host does not tell");
    ::sd_notify(0, "READY=1");  // to end after that is no failure
    return front::leave_to_kernel();
}

// A TPM that is made at its first start takes longer for its first answer than the kernel waits for
// one of a TPM 2.0: it is not asked before.
Result<front::ProxyChip> make_chip(xen::FrontDevice& device) {
    std::array<std::uint8_t, xen::tpmif::max_packet> answer{};
    VTPM_CHECK(device.ring().transmit(tpm::get_test_result(), 0, answer, back_end_patience));
    return front::ProxyChip::make();
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = front::options_of(argc, argv);
    log::init("vtpm-front");
    outlive_initramfs(argv[0]);
    front::Background background;
    if (options.background)
        background = required(front::Background::enter());
    const Fd signals = required(termination_signals());
    required(jail::forbid_core_dumps());
    required(jail::lock_memory());

    auto store = required(xen::LibxenStore::open());
    xen::LibxenGrantShare grants;
    xen::LibxenEventPorts ports;
    xen::FrontDevice device(*store, grants, ports, "device/vtpm/" + options.number);
    required(leave_tpm_12_to_kernel(device));
    required(front::take_from_kernel(options.device));

    const std::string path = options.run_dir + "/" + options.device + ".sock";
    auto left = front::take_left_chip();
    std::optional<front::Inheritance> inherited;
    if (!left)
        inherited = required(front::inherit(path, back_end_patience));
    required(device.connect(inherited ? heir_patience : back_end_patience));
    if (inherited)
        required(front::confirm(*inherited));  // from here on it is ours, and nobody else's
    auto chip = left        ? front::ProxyChip::adopt(std::move(*left))
                : inherited ? front::ProxyChip::adopt(std::move(inherited->chip))
                            : required(make_chip(device));
    front::leave_chip(chip.fd());
    auto heirs = required(front::Testator::listen(path));

    front::ChipRelay relay(device, store->fd(), chip, heirs, signals.get(),
                           [argv](auto channel) { front::lay_aside(std::move(channel), argv[0]); });
    required(relay.run([&background] {
        background.ready();
        ::sd_notify(0, "READY=1");
    }));
    return EXIT_SUCCESS;
}
