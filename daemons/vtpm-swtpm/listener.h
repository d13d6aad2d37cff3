// A listening UNIX socket at a path.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "vtpm/base/fd.h"

namespace vtpm::swtpm {

struct Address {
    std::string path;
    mode_t mode = 0600;
    std::optional<uid_t> uid = {};
    std::optional<gid_t> gid = {};
};

// Non-blocking. A socket that is at the path, and on which nobody listens, is replaced;
// Errc::in_use if somebody does.
Result<Fd> listen_at(const Address& address);
// The next connection; none: nobody waits.
Fd accept_from(int listener);

}  // namespace vtpm::swtpm
