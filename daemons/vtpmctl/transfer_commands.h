// The verbs of vtpmctl by which a TPM moves to another host, and backup.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "commands.h"

namespace vtpm::control {

struct TransferOptions {
    std::string selector;
    std::string group;
    std::string ticket;   // files
    std::string package;  // the one to read
    std::string out;      // a new one: the ticket, the package, the receipt or the backup
    std::string receipt;
    std::string name;
    bool without_snapshots = false;
    bool abort = false;
    bool again = false;
};

void describe_transfers(CLI::App& app, TransferOptions& options, bool& yes);
// What an export without --yes is told.
std::string export_without_yes(const TransferOptions& options);

Result<void> ticket(ManagerConnection& manager, const TransferOptions& options, Output output);
Result<void> export_instance(ManagerConnection& manager, const TransferOptions& options,
                             Output output);
Result<void> import_package(ManagerConnection& manager, const TransferOptions& options,
                            Output output);
Result<void> backup(ManagerConnection& manager, const TransferOptions& options, Output output);

}  // namespace vtpm::control
