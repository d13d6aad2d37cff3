// What every one of our processes does to itself before it holds a secret: nothing of it reaches a
// core file, a debugger of another uid, or swap. Whole-process, before other threads start.
#pragma once

#include "vtpm/base/result.h"

namespace vtpm::jail {

// prctl(PR_SET_DUMPABLE, 0) and RLIMIT_CORE 0. Repeat after a change of uid: the kernel resets the
// dumpable flag on setuid (prctl(2)).
Result<void> forbid_core_dumps();

// mlockall of everything now and later, as it is touched (MCL_ONFAULT): a page that was never used
// costs nothing.
Result<void> lock_memory();

// PR_SET_NO_NEW_PRIVS: no execve can gain anything from here on.
Result<void> forbid_new_privileges();

// Has malloc write over what it is given back (mallopt(3), M_PERTURB): libraries free what held
// secrets as it is; ESYS a session, with the authorization value of what it was for. Small pieces
// (up to 1032 bytes, glibc's tcache) stay as they are.
void wipe_freed_memory();

}  // namespace vtpm::jail
