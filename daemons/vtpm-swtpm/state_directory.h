// The directory that swtpm's callers name with --tpmstate. In the place of a state it has a line
// that says which TPM of the vault it stands for, under the name of swtpm's own file: so that
// neither program takes the other's for empty.
#pragma once

#include <string>

#include "vtpm/base/result.h"
#include "vtpm/tpm/version.h"

namespace vtpm::swtpm {

std::string instance_file_in(const std::string& directory, tpm::Version version);

// The TPM's uuid. Errc::not_found: there is no such file; Errc::malformed: it is a state of
// swtpm's.
Result<std::string> instance_in(const std::string& directory, tpm::Version version);

// Puts the file back if it is gone: its callers, like swtpm's, may remove it while the TPM is off.
Result<void> name_again(const std::string& file, const std::string& uuid);

// For STORE_VOLATILE; swtpm's name for it.
std::string volatile_file_in(const std::string& directory, tpm::Version version);

}  // namespace vtpm::swtpm
