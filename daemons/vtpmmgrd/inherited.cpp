#include "inherited.h"

#include <systemd/sd-daemon.h>

#include <cstdlib>

namespace vtpm::manager {

Inherited take_inherited() {
    Inherited inherited;
    char** names = nullptr;
    const int count = ::sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count; ++i) {
        Fd fd(SD_LISTEN_FDS_START + i);
        if (::sd_is_socket(fd.get(), AF_UNIX, SOCK_STREAM, 1) > 0) {
            inherited.socket = std::move(fd);
        } else {
            inherited.stored.push_back({names != nullptr ? names[i] : "", std::move(fd)});
        }
    }
    for (int i = 0; i < count && names != nullptr; ++i)
        std::free(names[i]);
    std::free(names);
    return inherited;
}

}  // namespace vtpm::manager
