// The approver's public key and signatures, between what openssl writes and what the chip reads.
//
// Private to the chip room. Part 2 clauses 11.3.4 (TPMT_SIGNATURE), 12.2.4 (TPMT_PUBLIC); RFC 5480,
// RFC 3279 clause 2.2.3 (ECDSA-Sig-Value), RFC 8017 clause 8.2 (RSASSA-PKCS1-v1_5).
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <string_view>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"

namespace vtpm::chip {

// A PEM public key as the marshalled TPM2B_PUBLIC of a key that does nothing but verify SHA-256
// signatures of one scheme: there is one form for each key, and its Name is what policies hold.
Result<Bytes> key_from_pem(std::string_view pem);

// Errc::invalid_argument for what is not bit for bit a thing that key_from_pem() makes.
Result<void> check_key(ByteView key);

// Its SubjectPublicKeyInfo in DER (RFC 5480 and 3279), which is in its PEM, too.
Result<Bytes> key_as_der(ByteView key);

// Errc::not_approved if it is not this key's signature over SHA-256 of `words`.
Result<void> verify(ByteView key, ByteView words, ByteView signature);

// Errc::not_approved if it is not the form of a signature of this key's kind.
Result<TPMT_SIGNATURE> signature_for_chip(ByteView key, ByteView signature);

}  // namespace vtpm::chip
