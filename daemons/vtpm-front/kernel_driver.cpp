#include "kernel_driver.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/base/fd.h"

namespace vtpm::front {

Result<void> take_from_kernel(const std::string& device) {
    const std::string path = "/sys/bus/xen/devices/" + device + "/driver/unbind";
    const Fd unbind(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!unbind.valid() && errno == ENOENT)
        return {};
    if (!unbind.valid())
        return fail_errno(path, errno);
    return write_all(unbind.get(), as_bytes(device));
}

Result<void> leave_to_kernel() {
    ::execl("/sbin/modprobe", "modprobe", "xen-tpmfront", nullptr);
    return fail_errno("/sbin/modprobe", errno);
}

}  // namespace vtpm::front
