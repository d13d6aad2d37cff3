// The verbs of vtpmctl that make a vault, or open one that the chip does not open.
#pragma once

#include <string>

#include "commands.h"

namespace vtpm::control {

struct ApproverOptions {
    std::string key;                  // a file with a public key (PEM); empty: none
    std::vector<std::uint32_t> pcrs;  // empty: the usual ones
};

struct SetupOptions {
    std::string recovery_out;     // a file for a recovery key; empty: make none
    std::string recovery_public;  // or a file with the public half of one
    bool replace_key = false;     // in place of the one that the vault has
    ApproverOptions approver;
    bool no_latch = false;
    bool beside_another = false;
    bool legacy_tpm12 = false;
};

Result<void> setup(ManagerConnection& manager, const SetupOptions& options, Output output);
// `key_file`: the recovery key; empty if the vault has none.
Result<void> recover(ManagerConnection& manager, const std::string& key_file, Output output);
Result<void> unlock(ManagerConnection& manager, const std::string& key_file, Output output);
Result<void> check_recovery_key(ManagerConnection& manager, const std::string& key_file,
                                Output output);

// Reads the key, if there is one.
Result<void> fill(wire::proto::Approver& approver, const ApproverOptions& options);

}  // namespace vtpm::control
