// The verbs of vtpmctl that ask vtpmmgrd. Each prints its result on standard output.
#pragma once

#include <optional>
#include <string>

#include "manager_connection.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {

struct Output {
    bool json = false;
};

struct SetupOptions {
    std::string recovery_out;  // a file for a recovery key; empty: make none
    bool replace_key = false;  // in place of the one that the vault has
};

struct CreateOptions {
    std::string name;
    std::string tpm = "1.2";
    std::string uuid;  // empty: a random one
    bool sync = false;
};

Result<void> setup(ManagerConnection& manager, const SetupOptions& options, Output output);
Result<void> create(ManagerConnection& manager, const CreateOptions& options, Output output);
Result<void> list(ManagerConnection& manager, Output output);
Result<void> show(ManagerConnection& manager, const std::string& selector, Output output);
Result<void> rename(ManagerConnection& manager, const std::string& selector,
                    const std::string& name, Output output);
Result<void> remove(ManagerConnection& manager, const std::string& selector, Output output);
// `key_file`: the recovery key; empty if the vault has none.
Result<void> recover(ManagerConnection& manager, const std::string& key_file, Output output);
Result<void> status(ManagerConnection& manager, Output output);

// What a new instance is to be called; `uuid` may be empty. Without its TPM's version.
Result<void> describe_new(const std::string& name, const std::string& uuid,
                          wire::proto::Create& into);

// 1 refused or failed, 3 manager not reachable, 4 host locked or not set up, wrong chip or
// none, 5 not found, 6 in use. (0 is success, 2 a bad command line.)
int exit_code(const Error& error);

}  // namespace vtpm::control
