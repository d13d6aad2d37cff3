// The verbs of vtpmctl about snapshots: taken of a guest's TPM while the guest is off, reverted to,
// and cloned. Each prints its result on standard output.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "commands.h"

namespace vtpm::control {

struct SnapshotOptions {
    std::string selector;
    std::string snapshot;
    std::string name;  // of the clone
    std::string uuid;  // of the clone; empty: a random one
};

void describe_snapshots(CLI::App& app, SnapshotOptions& options, bool& yes);
// Why this command is not carried out without --yes; empty: it needs none.
std::string snapshot_without_yes(const std::string& command, const SnapshotOptions& options);

Result<void> take_snapshot(ManagerConnection& manager, const SnapshotOptions& options,
                           Output output);
Result<void> list_snapshots(ManagerConnection& manager, const SnapshotOptions& options,
                            Output output);
Result<void> delete_snapshot(ManagerConnection& manager, const SnapshotOptions& options,
                             Output output);
Result<void> revert(ManagerConnection& manager, const SnapshotOptions& options, Output output);
Result<void> clone(ManagerConnection& manager, const SnapshotOptions& options, Output output);

}  // namespace vtpm::control
