// vtpmctl import-swtpm: makes a TPM for a guest out of one that swtpm has served.
#pragma once

#include <string>

#include "commands.h"

namespace vtpm::control {

struct ImportSwtpmOptions {
    std::string source;  // a state directory, or a file of the file:// back end
    std::string name;
    std::string tpm;    // empty: what is there
    std::string uuid;   // empty: a random one
    std::string group;  // empty: the default group
    std::string key;    // as in SwtpmKey; empty: none
    std::string passphrase;
    bool sync = false;
};

Result<void> import_swtpm(ManagerConnection& manager, const ImportSwtpmOptions& options,
                          Output output);

}  // namespace vtpm::control
