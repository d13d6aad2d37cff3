// The steps by which a process that will read hostile bytes gives its powers away, each for good.
// They are small so that a program's main shows the order; the engine's is:
//
//     close_descriptors_except -> empty_namespaces -> limit_resources -> become_user
//         -> forbid_new_privileges, forbid_core_dumps (harden.h) -> threads -> install_filter
//
// Whole-process, before other threads start (namespaces and uids are attributes of a thread).
#pragma once

#include <sys/types.h>

#include <span>

#include "vtpm/base/result.h"

namespace vtpm::jail {

// Closes every descriptor but these (and 2, standard error: a pipe to vtpmd, which bounds it).
Result<void> close_descriptors_except(std::span<const int> keep);

// New mount, network, IPC, UTS and cgroup namespaces, and as root directory an empty, read-only
// tmpfs. (A PID namespace only takes effect for children: the parent gives us one at clone time.)
Result<void> empty_namespaces();

// No files written, four threads of this user, few descriptors; `data_bytes` bounds the heap and
// all private memory (RLIMIT_DATA). Address space, and so page tables, are bounded as well
// (RLIMIT_AS).
Result<void> limit_resources(std::size_t data_bytes);

// All three uids and gids, no supplementary groups, every capability set empty and locked
// (SECBIT_NOROOT and its lock among them).
Result<void> become_user(uid_t uid, gid_t gid);

}  // namespace vtpm::jail
