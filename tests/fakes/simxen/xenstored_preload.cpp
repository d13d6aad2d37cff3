// For xenstored only: dom0's own connection page and port come from the machine's directory
// instead of /proc/xen. Nobody ever speaks over them.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include <string>

#include "machine.h"

namespace {

using Open = int (*)(const char*, int, ...);

int open_as(const char* symbol, const char* path, int flags, unsigned mode) {
    const auto real = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, symbol));
    if (::strcmp(path, "/proc/xen/xsd_port") == 0 || ::strcmp(path, "/proc/xen/xsd_kva") == 0) {
        return real(simxen::path_of(path + ::strlen("/proc/xen/")).c_str(), flags, mode);
    }
    return real(path, flags, mode);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const unsigned mode = va_arg(more, unsigned);
    va_end(more);
    return open_as("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const unsigned mode = va_arg(more, unsigned);
    va_end(more);
    return open_as("open64", path, flags, mode);
}

}  // extern "C"
