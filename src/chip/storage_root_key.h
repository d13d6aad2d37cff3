// The storage root key (SRK): the chip's identity for us, and the parent of what we seal.
//
// ECC P-256 with AES-128-CFB after the TCG template, with noDA; private to the chip room.
// TCG TPM v2.0 Provisioning Guidance clause 7.5.1; TCG EK Credential Profile annex B (templates).
#pragma once

#include "esys_connection.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip {

inline constexpr TPM2_HANDLE persistent_srk = 0x81000001;

// Derives the key afresh from the owner seed (TPM2_CreatePrimary) and says what it is.
Result<ChipIdentity> derive_identity(EsysConnection& connection);

// The pinned key, loaded: the persistent one if it is that key, else derived and compared. The
// public area that ESYS has for the handle, to which it salts sessions, is bit for bit the pinned
// one. Errc::wrong_chip if the chip does not have the key.
Result<LoadedHandle> load_srk(EsysConnection& connection, const ChipIdentity& pinned);

}  // namespace vtpm::chip
