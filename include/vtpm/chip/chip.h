// Chip: the host's TPM 2.0, as the keeper of a few small secrets.
//
// The contract speaks of sealing only; NV cells and approvals come with later milestones. main()
// owns the implementation and lends it to the vault. One thread at a time; every call blocks for as
// long as the chip takes (seconds, on slow hardware), so it stays off the path of a guest's
// commands.
//
// What seal() promises: the content can be had from this chip only, by TPM2_Unseal, and only over a
// policy (userWithAuth is clear, so there is no password to guess). It does NOT bind to what was
// booted: the policy holds no PCR. Whoever runs as root on this host, on any boot, can unseal.
//
// TCG TPM 2.0 Library, Part 1 clause 19 (sessions, salting), clause 21 (parameter encryption);
// TCG Provisioning Guidance clause 7.5.1 (storage root key).
#pragma once

#include <cstddef>
#include <string>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::chip {

// Who the chip is: its storage root key. The two texts are for people and prove nothing.
struct ChipIdentity {
    Bytes srk_public;          // TPM2B_PUBLIC, marshalled
    Bytes srk_name;            // algorithm (2 bytes) and digest (32 bytes) of the public area
    std::string manufacturer;  // TPM_PT_MANUFACTURER, printable, e.g. "IFX"
    std::string firmware;      // TPM_PT_FIRMWARE_VERSION_1 and _2, e.g. "7.85.4555.0"
};

// What the disk keeps of a secret; neither part is secret. Part 1 clause 23.
struct SealedObject {
    Bytes public_area;   // TPM2B_PUBLIC, marshalled
    Bytes private_area;  // TPM2B_PRIVATE, marshalled
};

class Chip {
  public:
    // Part 2 clause 11.1.14: what every chip takes as sealed data, in bytes.
    static constexpr std::size_t max_sealed_size = 128;
    static constexpr std::size_t max_random_size = 1024;

    virtual ~Chip() = default;

    // Asks the chip who it is, over an unprotected bus: an answer to compare or to trust on first
    // use, not a proof.
    virtual Result<ChipIdentity> identify() = 0;

    // Pins the identity. From here on every secret travels in sessions salted to `identity`'s SRK,
    // so that only the chip that owns it can take part. Errc::wrong_chip if this chip does not; the
    // pin then stays as it was. At setup there is nothing to compare with: the caller pins what
    // identify() said (trust on first use) and stores it.
    virtual Result<void> expect(const ChipIdentity& identity) = 0;

    // The following three give Errc::invalid_argument before expect(), and for every later call
    // Errc::wrong_chip if another chip answers.

    // 1 to max_sealed_size bytes, else Errc::too_large or invalid_argument.
    virtual Result<SealedObject> seal(const SecretBytes& secret) = 0;

    // Errc::wrong_chip if another chip sealed it or its bytes were changed (the chip cannot tell
    // the two apart), Errc::corrupt if it is not an object that seal() makes.
    virtual Result<SecretBytes> unseal(const SealedObject& sealed) = 0;

    // Exactly `size` bytes, up to max_random_size.
    virtual Result<SecretBytes> random(std::size_t size) = 0;
};

}  // namespace vtpm::chip
