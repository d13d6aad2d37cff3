#include "machine.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdio>

namespace simxen {

std::string path_of(const std::string& relative) {
    const char* const directory = ::getenv("SIMXEN_DIR");
    if (directory == nullptr)
        return {};
    return std::string(directory) + "/" + relative;
}

std::uint32_t own_domain() {
    const char* const domid = ::getenv("SIMXEN_DOMID");
    return domid == nullptr ? 0 : static_cast<std::uint32_t>(::strtoul(domid, nullptr, 10));
}

std::string random_name() {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number)
        ::abort();
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
    return text;
}

std::string link_at(const std::string& relative) {
    char target[PATH_MAX];
    const auto size = ::readlink(path_of(relative).c_str(), target, sizeof target);
    if (size < 0)
        return {};
    return std::string(target, static_cast<std::size_t>(size));
}

}  // namespace simxen
