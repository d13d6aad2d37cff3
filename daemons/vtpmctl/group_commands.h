// The verbs of vtpmctl about groups and new keys.
#pragma once

#include "setup_commands.h"

namespace vtpm::control {

struct RotateOptions {
    std::string instance;  // one of the three
    std::string group;
    bool root = false;
};

Result<void> group_create(ManagerConnection& manager, const std::string& name,
                          const ApproverOptions& approver, Output output);
Result<void> group_list(ManagerConnection& manager, Output output);
// `selector`: a name or a uuid.
Result<void> group_show(ManagerConnection& manager, const std::string& selector, Output output);
Result<void> group_open(ManagerConnection& manager, const std::string& selector, Output output);
Result<void> group_close(ManagerConnection& manager, const std::string& selector, Output output);
Result<void> group_delete(ManagerConnection& manager, const std::string& selector, Output output);

Result<void> rotate(ManagerConnection& manager, const RotateOptions& options, Output output);

// All groups, as vtpmmgrd has them.
Result<std::vector<wire::proto::Group>> groups_of(ManagerConnection& manager);

}  // namespace vtpm::control
