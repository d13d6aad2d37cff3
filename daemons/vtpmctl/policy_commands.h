// The verbs of vtpmctl about which boots may have the keys: approvals, and who gives them.
#pragma once

#include "boot_statement.h"
#include "setup_commands.h"

namespace vtpm::control {

struct ApproveOptions {
    std::string group;                      // a name or a uuid; empty: the default group
    bool legacy_tpm12 = false;              // nobody signs: the chip is a TPM 1.2
    bool after_revoke = false;              // the approval outlives the next revocation
    std::string key;                        // a file with the approver's private key: sign here
    std::string out;                        // or a new file for what is to be signed elsewhere
    std::vector<std::string> pcrs;          // N=HEX, in place of this boot's values
    std::vector<std::string> replacements;  // or OLD=NEW, digests in the event log
    std::string event_log = EventLog::usual_path;
};

struct ImportOptions {
    std::string file;
    std::string signature;  // a file with a detached one; empty: it is in `file`
    std::string group;      // empty: the statement's
};

Result<void> set_approver(ManagerConnection& manager, const std::string& group,
                          const ApproverOptions& approver, Output output);

Result<void> approve_this_boot(ManagerConnection& manager, const ApproveOptions& options,
                               Output output);
Result<void> approve_next(ManagerConnection& manager, const ApproveOptions& options, Output output);
Result<void> approve_import(ManagerConnection& manager, const ImportOptions& options,
                            Output output);
Result<void> approve_list(ManagerConnection& manager, Output output);
Result<void> revoke(ManagerConnection& manager, bool forced, Output output);

}  // namespace vtpm::control
