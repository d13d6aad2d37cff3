// What systemd passes to us at a start: the socket that it listens on, and what the process before
// us has put into the descriptor store. sd_listen_fds(3), "FileDescriptorStoreMax=" in
// systemd.service(5).
#pragma once

#include <string>
#include <vector>

#include "vtpm/base/fd.h"

namespace vtpm::manager {

struct NamedFd {
    std::string name;
    Fd fd;
};

struct Inherited {
    Fd socket;                    // invalid: none
    std::vector<NamedFd> stored;  // by what the process before us named them
};

Inherited take_inherited();

}  // namespace vtpm::manager
