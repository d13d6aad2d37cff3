// A recovery key, made here and not by vtpmmgrd: what the vault's keys are escrowed to must be in
// its owner's hands before they are.
#pragma once

#include <string>

#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::control {

struct RecoveryPair {
    SecretBytes private_pem;  // P-256, PKCS#8, not encrypted
    std::string public_pem;
};

Result<RecoveryPair> make_recovery_pair();

}  // namespace vtpm::control
