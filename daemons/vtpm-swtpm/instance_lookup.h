// What the manager knows of an instance, without holding it.
#pragma once

#include <string>

#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::swtpm {

struct FoundInstance {
    Uuid uuid;
    std::string name;
    tpm::Version tpm;
    bool is_made = false;  // it has had power once: before, the vault has wishes and no state
    bool in_use = false;
    wire::proto::CommandPolicy policy = {};
};

// `selector`: a name, a uuid, or a unique prefix of one.
Result<FoundInstance> find_instance(const std::string& manager, const std::string& selector);
// From its next power-on.
Result<void> change_policy(const std::string& manager, const Uuid& instance,
                           const wire::proto::CommandPolicy& policy);

}  // namespace vtpm::swtpm
