// Who owns a TPM 1.2: whether anybody does, and how we come to. Private to the chip room.
#pragma once

#include "tpm12_connection.h"

namespace vtpm::chip::tpm12 {

Result<bool> has_owner(Tpm12Connection& connection);

// Makes a storage root key that anybody may use (the well-known secret), and an owner with this
// authorization value. Errc::chip if the firmware's menu has the chip disabled.
Result<void> take_ownership(Tpm12Connection& connection, const SecretBytes& owner_auth);

// The owner's authorization value from a file that only its owner may read: 40 hexadecimal digits.
// Without a file it is the well-known one.
Result<SecretBytes> read_owner_auth(const std::string& path);

}  // namespace vtpm::chip::tpm12
