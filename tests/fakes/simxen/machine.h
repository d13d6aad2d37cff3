// The simulated machine's directory, as all of the libraries see it. See README.md.
#pragma once

#include <cstdint>
#include <string>

namespace simxen {

// $SIMXEN_DIR/RELATIVE; empty if there is no machine.
std::string path_of(const std::string& relative);
std::uint32_t own_domain();
std::string random_name();
// The target of a symlink in the machine's directory; empty if there is none.
std::string link_at(const std::string& relative);

}  // namespace simxen
