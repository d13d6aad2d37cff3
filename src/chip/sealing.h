// The sealed object: what we ask the chip to keep, and the salted sessions in which it travels.
//
// Private to the chip room. Part 1 clauses 19.6.8 (salted sessions) and 21 (parameter encryption),
// Part 3 clauses 12.1 (Create), 12.2 (Load), 12.7 (Unseal).
#pragma once

#include "esys_connection.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip {

// Which first parameters are encrypted. A chip refuses a session that would encrypt one which the
// command or its answer does not have (Part 1 clause 21.1).
enum class Protect { both_ways, answer, command, nothing };

// An HMAC or policy session salted to the SRK, with AES-128-CFB parameter encryption.
Result<LoadedHandle> start_session(EsysConnection& connection, const LoadedHandle& srk,
                                   TPM2_SE type, Protect protect);

Result<SealedObject> create_sealed(EsysConnection& connection, const LoadedHandle& srk,
                                   const SecretBytes& secret, const Digest& policy);

// Loads it and lets it go: as far as one can try what one may not unseal.
Result<void> try_to_load(EsysConnection& connection, const LoadedHandle& srk,
                         const SealedObject& sealed, const Digest& policy);

Result<SecretBytes> unseal_object(EsysConnection& connection, const LoadedHandle& srk,
                                  const SealedObject& sealed, const Binding& binding,
                                  const Approval* approval);

Result<SecretBytes> random_bytes(EsysConnection& connection, const LoadedHandle& srk,
                                 std::size_t size);

}  // namespace vtpm::chip
