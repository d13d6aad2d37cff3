// Runs a program under a list of system calls, as systemd does for a unit with
// SystemCallErrorNumber=EPERM.
//
//   under-filter FILE PROGRAM [ARGUMENT...]     FILE: one name a line
#include <seccomp.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>

int main(int argc, char** argv) {
    if (argc < 3)
        return 2;
    const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    std::ifstream file(argv[1]);
    int allowed = 0;
    for (std::string name; std::getline(file, name);) {
        const int number = seccomp_syscall_resolve_name(name.c_str());
        // Names of other architectures, and of calls newer than the library.
        if (number < 0)
            continue;
        if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0) != 0)
            return 3;
        ++allowed;
    }
    if (allowed < 50 || seccomp_load(filter) != 0) {
        std::fprintf(stderr, "under-filter: no filter from %s\n", argv[1]);
        return 3;
    }
    ::execv(argv[2], argv + 2);
    return 127;
}
