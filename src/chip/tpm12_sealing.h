// Secrets sealed by a TPM 1.2 to the PCRs of boots. Private to the chip room.
//
// TCG TPM Main 1.2, Part 3 clauses 10.1 (TPM_Seal) and 10.2 (TPM_Unseal). The blob's own
// authorization value and the storage root key's are the well-known secret: what counts is the chip
// and its PCRs. The plaintext is on the chip's bus both ways: there is no parameter encryption.
#pragma once

#include "tpm12_connection.h"

namespace vtpm::chip::tpm12 {

// `boot`: PCR values that it is to be given out over; nullptr: any.
Result<Bytes> seal_blob(Tpm12Connection& connection, ByteView secret, const PcrValues* boot);

// Errc::not_approved: the chip's PCRs are not those; wrong_chip: it was made by another chip, or
// changed.
Result<SecretBytes> unseal_blob(Tpm12Connection& connection, ByteView blob);

Result<PcrValues> read_pcr_values(Tpm12Connection& connection,
                                  const std::vector<std::uint8_t>& numbers);

// One secret, once for each boot. Errc::invalid_argument without boots, or for a boot of no PCR.
Result<SealedObject> seal_for_boots(Tpm12Connection& connection, const SecretBytes& secret,
                                    const std::vector<PcrValues>& boots);
// With the blob of this boot. Errc::corrupt: not what seal_for_boots() makes.
Result<SecretBytes> unseal_for_boot(Tpm12Connection& connection, const SealedObject& sealed);

}  // namespace vtpm::chip::tpm12
