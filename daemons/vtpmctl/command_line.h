// vtpmctl's command line: its words, and what they mean together.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "command_policy.h"
#include "group_commands.h"
#include "import_swtpm.h"
#include "policy_commands.h"
#include "snapshot_commands.h"
#include "transfer_commands.h"
#include "watch.h"

namespace vtpm::control {

struct Arguments {
    std::string socket = "/run/xen-vtpm/manager.sock";
    Output output;
    SetupOptions setup;
    std::string recovery_key;
    CreateOptions create;
    ImportSwtpmOptions import_swtpm;
    std::string selector;  // of a TPM or a group
    std::string new_name;
    bool sync = false;
    PolicyOptions policy;
    std::string group;
    ApproverOptions approver;
    bool no_approver = false;
    ApproveOptions approve;
    ImportOptions import;
    RotateOptions rotate;
    TransferOptions transfer;
    SnapshotOptions snapshot;
    WatchOptions watch;
    std::uint64_t after = 0;
    bool force = false;
    bool yes = false;
};

void describe_commands(CLI::App& app, Arguments& arguments);

// After parsing: "setup", "approve this-boot", ...
std::string command_of(const CLI::App& app);

// Why this command is not carried out as it stands, for people; none if it is.
std::optional<std::string> objection(const std::string& command, const Arguments& arguments);

}  // namespace vtpm::control
