#include "caller.h"

#include <pwd.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <limits>

#include "vtpm/base/fd.h"

namespace vtpm::control {
namespace {

constexpr std::size_t max_caller_name = 64;

// The user who has logged in, however often he has changed his uid since. proc(5).
uid_t login_uid() {
    uid_t uid = std::numeric_limits<uid_t>::max();  // as the kernel says that there is none
    if (const auto text = read_file("/proc/self/loginuid", 32)) {
        const auto* const begin = reinterpret_cast<const char*>(text->data());
        std::from_chars(begin, begin + text->size(), uid);
    }
    return uid == std::numeric_limits<uid_t>::max() ? ::getuid() : uid;
}

}  // namespace

std::string caller_name() {
    std::string name;
    if (const char* const sudo = std::getenv("SUDO_USER"); sudo != nullptr)
        name = sudo;
    if (name.empty()) {
        const uid_t uid = login_uid();
        const passwd* const entry = ::getpwuid(uid);
        name = entry != nullptr ? entry->pw_name : "uid " + std::to_string(uid);
    }
    name.resize(std::min(name.size(), max_caller_name));
    for (char& c : name) {
        if (c <= ' ' || c >= 0x7f)
            c = '_';
    }
    return name;
}

}  // namespace vtpm::control
