// Files that hold secrets, as an administrator names them.
#pragma once

#include <string>

#include "vtpm/base/secret_bytes.h"

namespace vtpm::control {

// The whole of a file, or of what a pipe brings. Errc::invalid_argument if it is empty, too_large
// beyond `limit` bytes: then it is not what the caller takes it for.
Result<SecretBytes> read_secret_file(const std::string& path, std::size_t limit);

}  // namespace vtpm::control
