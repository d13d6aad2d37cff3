// The 10-byte frame of every TPM command and response, and the few codes that we send or act on.
//
// TPM 1.2: TPM Main Part 2 (structures), sections 6 (tags), 16 (return codes), 17 (ordinals).
// TPM 2.0: TPM Library Part 1 section 18 (command structure), Part 2 sections 6.5, 6.6, 6.9.
// Numbers are big-endian on the wire. Plain functions, any thread.
#pragma once

#include <cstdint>

#include "vtpm/base/bytes.h"
#include "vtpm/tpm/version.h"

namespace vtpm::tpm {

inline constexpr std::size_t header_size = 10;

// tag, size (of the whole message), ordinal or return code
struct Header {
    std::uint16_t tag;
    std::uint32_t size;
    std::uint32_t code;
};

Result<Header> parse_header(ByteView message);

// Why we answer for the TPM ourselves.
enum class Refusal {
    bad_size,       // shorter than a header, longer than the buffer, or its size field lies
    bad_locality,   // a locality that this instance does not grant
    not_committed,  // the change was made but could not be written durably: try again
    failed,         // the TPM is in failure mode until its next power cycle
    no_power,       // nothing has switched it on
    cancelled,
    denied_command,  // a command that this instance does not offer
};

std::uint32_t refusal_code(Version version, Refusal refusal);

// Writes a header-only response with that code; returns its size (header_size).
// `response` holds at least header_size bytes.
std::size_t write_refusal(Version version, Refusal refusal, MutableByteView response);

// The same of a TPM 2.0 command that has succeeded and has nothing to say.
std::size_t write_success(MutableByteView response);

// Commands whose execution can take longer than a person notices (key generation, self tests): for
// these a CANCEL on the ring is watched for while they run.
bool may_take_long(Version version, std::uint32_t ordinal);

// Commands whose answer does not depend on the TPM's lasting state: PCRs, random numbers, self
// tests, and what a TPM 2.0 can do. `request` is whole; one without a header is no such command.
bool shows_no_lasting_state(Version version, ByteView request);

// Commands that the platform's firmware sends: built, never parsed.
Bytes startup_clear(Version version);
Bytes shutdown_clear();                               // TPM 2.0 only
Bytes get_test_result();                              // TPM 2.0 only: who answers, works
Bytes create_endorsement_key_pair(ByteView nonce20);  // TPM 1.2 only: RSA-2048

}  // namespace vtpm::tpm
