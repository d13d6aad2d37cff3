// Who sits at the keyboard, as far as root can know: for the journal, and proves nothing.
#pragma once

#include <string>

namespace vtpm::control {

// SUDO_USER, else the name of the user who has logged in (/proc/self/loginuid), else of the one we
// run as. Printable, and 64 characters at most.
std::string caller_name();

}  // namespace vtpm::control
