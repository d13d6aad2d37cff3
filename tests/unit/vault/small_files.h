// A limit on the size of files, which stands in for a full disk: the write fails the same way.
#pragma once

#include <sys/resource.h>

#include <csignal>

#include "fixture.h"

namespace vtpm::vault {

// What `act` answers while no file grows beyond `size` bytes.
auto with_small_files(rlim_t size, const auto& act) {
    struct sigaction ignore {};
    struct sigaction before {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGXFSZ, &ignore, &before);
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
    const rlimit small{size, old.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    auto answer = act();
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
    ::sigaction(SIGXFSZ, &before, nullptr);
    return answer;
}

}  // namespace vtpm::vault
