// The verbs of vtpmctl about TPMs and the manager itself, and what all verbs share. Each prints its
// result on standard output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "manager_connection.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {

struct Output {
    bool json = false;
};

struct CreateOptions {
    std::string name;
    std::string tpm = "2.0";
    std::string uuid;   // empty: a random one
    std::string group;  // a name or a uuid; empty: the default group
    bool sync = false;
    std::vector<std::string> banks = {};  // of a TPM 2.0; none: SHA-256
};

Result<void> create(ManagerConnection& manager, const CreateOptions& options, Output output);
// By name.
Result<std::vector<wire::proto::Instance>> all_instances(ManagerConnection& manager);
Result<void> list(ManagerConnection& manager, Output output);
Result<void> show(ManagerConnection& manager, const std::string& selector, Output output);
// Whether each write is committed to the chip before it is answered, from now on.
Result<void> set_sync(ManagerConnection& manager, const std::string& selector, bool sync,
                      Output output);
Result<void> rename(ManagerConnection& manager, const std::string& selector,
                    const std::string& name, Output output);
Result<void> remove(ManagerConnection& manager, const std::string& selector, Output output);
Result<void> status(ManagerConnection& manager, Output output);
// The lines of the journal after number `after`. Errc::corrupt, once they are printed, if some of
// them are not as they were written.
Result<void> log(ManagerConnection& manager, std::uint64_t after, Output output);

// What a new instance is to be called; `uuid` may be empty. Without its TPM's version.
Result<void> describe_new(const std::string& name, const std::string& uuid,
                          wire::proto::Create& into);

// 1 refused or failed, 3 manager not reachable, 4 host locked (this boot is not approved, or the
// boot latch is closed) or not set up, wrong chip or none, 5 not found, 6 in use. (0 is success, 2
// a bad command line.)
int exit_code(const Error& error);

// What to do about it; empty if the error says all.
std::string advice(const Error& error);

}  // namespace vtpm::control
