// What the manager knows of an instance, without holding it.
#pragma once

#include <string>

#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"
#include "vtpm/wire/channel.h"

namespace vtpm::swtpm {

struct FoundInstance {
    Uuid uuid;
    std::string name;
    tpm::Version tpm;
};

// `selector`: a name, a uuid, or a unique prefix of one.
Result<FoundInstance> find_instance(const std::string& manager, const std::string& selector);

}  // namespace vtpm::swtpm
