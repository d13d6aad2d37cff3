#include "vtpm/jail/confine.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>
#include <vector>

#include "vtpm/jail/sanitizer.h"

namespace vtpm::jail {
namespace {

constexpr rlim_t stack_bytes = 8UL << 20;
// Beside the data: libraries, stacks, and what malloc reserves for a second thread and gives back.
constexpr rlim_t address_space = 512UL << 20;
// Counted by user: the two threads of this process, and those of one that is on its way out.
constexpr rlim_t max_threads = 4;

Result<void> limit(__rlimit_resource resource, rlim_t value, const char* name) {
    const rlimit both{value, value};
    if (::setrlimit(resource, &both) != 0)
        return fail_errno(name, errno);
    return {};
}

Result<void> close_range_of(unsigned first, unsigned last) {
    if (first > last)
        return {};
    if (::close_range(first, last, 0) != 0)
        return fail_errno("close_range", errno);
    return {};
}

}  // namespace

Result<void> close_descriptors_except(std::span<const int> keep) {
    std::vector<int> kept(keep.begin(), keep.end());
    kept.push_back(STDERR_FILENO);
    std::sort(kept.begin(), kept.end());
    unsigned next = 0;
    for (const int fd : kept) {
        const auto here = static_cast<unsigned>(fd);
        if (here > next)
            VTPM_CHECK(close_range_of(next, here - 1));
        next = std::max(next, here + 1);
    }
    return close_range_of(next, UINT_MAX);
}

Result<void> empty_namespaces() {
    if (::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) !=
        0) {
        return fail_errno("unshare", errno);
    }
    // Private first: without it the mounts below would appear in the host's own tree.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return fail_errno("making mounts private", errno);
    }
    // Any directory will do as a place for the new root: nobody outside sees this mount.
    const char* place = "/tmp";
    constexpr unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mount("none", place, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") != 0) {
        return fail_errno("mounting an empty root", errno);
    }
    if (::chdir(place) != 0)
        return fail_errno("chdir", errno);
    // The new root on top of itself, then the old one taken from below: pivot_root(2),
    // "pivot_root(".", ".")".
    if (::syscall(SYS_pivot_root, ".", ".") != 0)
        return fail_errno("pivot_root", errno);
    if (::umount2(".", MNT_DETACH) != 0)
        return fail_errno("leaving the old root", errno);
    if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, nullptr) != 0) {
        return fail_errno("making the empty root read-only", errno);
    }
    if (::chdir("/") != 0)
        return fail_errno("chdir", errno);
    return {};
}

Result<void> limit_resources(std::size_t data_bytes) {
    if constexpr (!sanitized) {
        VTPM_CHECK(limit(RLIMIT_DATA, data_bytes, "RLIMIT_DATA"));
        VTPM_CHECK(limit(RLIMIT_AS, data_bytes + address_space, "RLIMIT_AS"));
    }
    VTPM_CHECK(limit(RLIMIT_STACK, stack_bytes, "RLIMIT_STACK"));
    VTPM_CHECK(limit(RLIMIT_NPROC, max_threads, "RLIMIT_NPROC"));
    VTPM_CHECK(limit(RLIMIT_FSIZE, 0, "RLIMIT_FSIZE"));
    VTPM_CHECK(limit(RLIMIT_NOFILE, 16, "RLIMIT_NOFILE"));
    VTPM_CHECK(limit(RLIMIT_MSGQUEUE, 0, "RLIMIT_MSGQUEUE"));
    VTPM_CHECK(limit(RLIMIT_SIGPENDING, 16, "RLIMIT_SIGPENDING"));
    return {};
}

Result<void> become_user(uid_t uid, gid_t gid) {
    if (uid == 0 || gid == 0)
        return fail(Errc::invalid_argument, "a jail for root is none");
    constexpr int bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                         SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                         SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    if (::prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) != 0)
        return fail_errno("securebits", errno);
    capng_clear(CAPNG_SELECT_BOTH);
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                 CAP_SETUID);
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                 CAP_SETGID);
    capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                 CAP_SETPCAP);
    if (::setgroups(0, nullptr) != 0)
        return fail_errno("setgroups", errno);
    if (capng_apply(CAPNG_SELECT_BOTH) != 0)
        return fail(Errc::io, "dropping capabilities failed");
    if (::setresgid(gid, gid, gid) != 0)
        return fail_errno("setresgid", errno);
    if (::setresuid(uid, uid, uid) != 0)
        return fail_errno("setresuid", errno);
    capng_clear(CAPNG_SELECT_BOTH);
    if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
        return fail(Errc::io, "dropping the last capabilities failed");
    }
    // Proof, not hope: none of it may come back.
    if (::setresuid(0, 0, 0) == 0)
        return fail(Errc::permission, NextAction::stop, "still root");
    return {};
}

}  // namespace vtpm::jail
