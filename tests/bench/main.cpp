// bench-ring [commands|fronts|writes|starts|memory]: see tests/bench/README.md. All without an
// argument.
#include <cstdio>
#include <exception>
#include <string>

#include "measure.h"

int main(int argc, char** argv) try {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::string only = argc > 1 ? argv[1] : "";
    vtpm::fakes::SimHost host(true);
    std::printf("engines' memory: %s\n\n", vtpm::fakes::SimHost::locks_memory()
                                               ? "locked"
                                               : "not locked, RLIMIT_MEMLOCK cannot be raised");
    if (only.empty() || only == "commands")
        vtpm::bench::commands(host);
    if (only.empty() || only == "fronts")
        vtpm::bench::fronts(host);
    if (only.empty() || only == "writes")
        vtpm::bench::writes(host);
    if (only.empty() || only == "starts")
        vtpm::bench::starts(host);
    if (only.empty() || only == "memory")
        vtpm::bench::memory(host);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-ring: %s\n", error.what());
    return 1;
}
