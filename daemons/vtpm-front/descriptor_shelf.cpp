#include "descriptor_shelf.h"

#include <systemd/sd-daemon.h>

#include <cstring>

#include "vtpm/base/log.h"

namespace vtpm::front {

std::optional<Fd> take_left_chip() {
    std::optional<Fd> chip;
    const int count = ::sd_listen_fds(1);
    for (int i = 0; i < count; ++i)
        chip.emplace(SD_LISTEN_FDS_START + i);
    return chip;
}

void leave_chip(int descriptor) {
    const int told = ::sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=chip", &descriptor, 1);
    if (told < 0)
        spdlog::warn("systemd does not keep the TPM for a restart: {}",
                     std::strerror(-told));  // NOLINT(concurrency-mt-unsafe): one thread
}

}  // namespace vtpm::front
