// Where the simulated hypervisor keeps its objects: one directory for all processes of a test,
// named by SIMXEN_DIR. Plain C library only: this is loaded into programs that are measured.
//
//   grant-DOMID-REF    a ring page, mapped by whoever has its name
//   port-DOMID-PORT    a listening UNIX socket: the domain's unbound event port
//   domain-DOMID       what the hypervisor says of a domain (xc_domaininfo's flags, in hex)
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace simxen {

// Writes DIRECTORY/KIND-DOMAIN[-NUMBER]; false if there is no room or no directory.
template <std::size_t N>
bool place(char (&path)[N], const char* kind, unsigned domain, long number = -1) {
    const char* const directory = std::getenv("SIMXEN_DIR");
    if (directory == nullptr) {
        errno = ENOENT;
        return false;
    }
    const int size = number < 0
                         ? std::snprintf(path, N, "%s/%s-%u", directory, kind, domain)
                         : std::snprintf(path, N, "%s/%s-%u-%ld", directory, kind, domain, number);
    if (size > 0 && static_cast<std::size_t>(size) < N)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

}  // namespace simxen
