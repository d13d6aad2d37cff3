// Preloaded into engines where RLIMIT_MEMLOCK is small and cannot be raised: mlockall() does
// nothing. With it an engine, no longer root, could map nothing more. It says nothing of the rest
// of the jail, and tests and bench say when it is in use.
#include <sys/mman.h>

extern "C" int mlockall(int) noexcept {
    return 0;
}
