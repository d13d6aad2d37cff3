#include "power_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/base/fd.h"

namespace vtpm::doorman {

bool PowerRecord::exists() const {
    return ::access(path_.c_str(), F_OK) == 0;
}

Result<void> PowerRecord::write() const {
    const Fd file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
        return fail_errno(path_, errno);
    return {};
}

void PowerRecord::remove() const {
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
