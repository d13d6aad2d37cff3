#include "vtpm/jail/harden.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>

namespace vtpm::jail {

Result<void> forbid_core_dumps() {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0)
        return fail_errno("setrlimit(RLIMIT_CORE)", errno);
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return fail_errno("PR_SET_DUMPABLE", errno);
    return {};
}

Result<void> lock_memory() {
    if (::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) {
        return fail_errno("mlockall (is LimitMEMLOCK too small?)", errno);
    }
    return {};
}

Result<void> forbid_new_privileges() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return fail_errno("PR_SET_NO_NEW_PRIVS", errno);
    }
    return {};
}

void wipe_freed_memory() {
    ::mallopt(M_PERTURB, 0xA5);
}

}  // namespace vtpm::jail
