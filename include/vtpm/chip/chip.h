// Chip: the host's TPM 2.0, as the keeper of a few small secrets.
//
// main() owns the implementation and lends it to the vault. One thread at a time; every call blocks
// for as long as the chip takes (seconds, on slow hardware), so it stays off the path of a guest's
// commands.
//
// What seal() promises: the content can be had from this chip only, by TPM2_Unseal, and only over a
// policy (userWithAuth is clear, so there is no password to guess). It does NOT bind to what was
// booted: the policy holds no PCR. Whoever runs as root on this host, on any boot, can unseal.
//
// The commit cell is 32 bytes of the chip's NV memory that can only be extended: V becomes
// SHA-256(V | digest). Its authorization value is a secret of the vault's; without it the cell can
// be neither read nor extended. The chip's owner can remove it, and make another that begins at the
// beginning, but not with the same authorization value.
//
// TCG TPM 2.0 Library, Part 1 clause 19 (sessions, salting), clause 21 (parameter encryption),
// clause 37 (NV memory); TCG Provisioning Guidance clause 7.5.1 (storage root key).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
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

using CellValue = std::array<std::uint8_t, 32>;
using CellIndex = std::uint32_t;  // an NV index of the owner's range
// Whose cell it is: public, and part of what the chip holds of it (as an authPolicy that no
// attribute lets anybody use).
using CellTag = std::array<std::uint8_t, 32>;

struct Cell {
    CellIndex index = 0;
    CellTag tag{};
};

class Chip {
  public:
    static constexpr std::size_t cell_auth_size = 32;

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

    // What follows gives Errc::invalid_argument before expect(), and for every later call
    // Errc::wrong_chip if another chip answers.

    // 1 to max_sealed_size bytes, else Errc::too_large or invalid_argument.
    virtual Result<SealedObject> seal(const SecretBytes& secret) = 0;

    // Errc::wrong_chip if another chip sealed it or its bytes were changed (the chip cannot tell
    // the two apart), Errc::corrupt if it is not an object that seal() makes.
    virtual Result<SecretBytes> unseal(const SealedObject& sealed) = 0;

    // Exactly `size` bytes, up to max_random_size.
    virtual Result<SecretBytes> random(std::size_t size) = 0;

    // Makes a cell at the first free index. `auth` is cell_auth_size bytes. Errc::permission if the
    // owner hierarchy has a password, too_large if the chip has no room.
    virtual Result<CellIndex> define_cell(const SecretBytes& auth, const CellTag& tag) = 0;

    // The cell's value; none if it was never extended (then it counts as 32 zero bytes).
    // Errc::wrong_cell: no such index, another authorization value or tag, or not a cell.
    virtual Result<std::optional<CellValue>> read_cell(const Cell& cell,
                                                       const SecretBytes& auth) = 0;

    // Extends, and reads back what came of it. After an error the cell may be extended or not: read
    // it. Errc as read_cell(); NextAction::retry_later while the chip spares its memory
    // (TPM_RC_NV_RATE).
    virtual Result<CellValue> extend_cell(const Cell& cell, const SecretBytes& auth,
                                          const CellValue& digest) = 0;

    // Gives the index back to the owner.
    virtual Result<void> remove_cell(CellIndex index) = 0;
    // The same with all cells of this tag but the one.
    virtual Result<void> remove_other_cells(const Cell& keep) = 0;
};

}  // namespace vtpm::chip
