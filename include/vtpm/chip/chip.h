// Chip: the host's TPM, as the keeper of a few small secrets.
//
// main() owns the implementation and lends it to the vault. One thread at a time; every call blocks
// for as long as the chip takes (seconds, on slow hardware), so it stays off the path of a guest's
// commands.
//
// What seal() promises: the content can be had from this chip only, by TPM2_Unseal, and only over
// the policy that its Binding says (userWithAuth is clear, so there is no password to guess):
//
//   with an approver   PolicyAuthorize(approver.key, approver.reference): an Approval is needed,
//                      that is a signature over [PolicyPCR(values), PolicyNV(counter <= limit)]
//   with a latch       PolicyNV(latch == its value): not after close_latch(), until the chip is
//   reset always             PolicyCommandCode(TPM2_Unseal)
//
// Without an approver it does NOT bind to what was booted: whoever runs as root on this host, on
// any boot, can unseal (until the latch is closed).
//
// The commit cell is 32 bytes of the chip's NV memory that can only be extended: V becomes
// SHA-256(V | digest). Its authorization value is a secret of the vault's; without it the cell can
// be neither read nor extended. The chip's owner can remove it, and make another that begins at the
// beginning, but not with the same authorization value.
//
// The counter and the latch are NV counters that anybody may read and the owner may increment.
// Their owner can remove them and make others of the same name, but a new counter begins above
// every value that any counter of this chip ever had (Part 3, TPM2_NV_Increment): whoever does that
// has revoked all approvals, or shut the latch for good; never the opposite.
//
// A TPM 1.2 knows no policies (docs/decisions/0008). What it seals is sealed once for each boot
// that may unseal it (Binding::boots); it has no approvers, counters and latches
// (Errc::unsupported), and its commit cell is written, not extended by the chip: who learns the
// authorization value can write an old value back. Its secrets are on its bus as they are.
//
// TCG TPM 2.0 Library, Part 1 clause 19 (sessions, salting, policies), clause 21 (parameter
// encryption), clause 37 (NV memory); TCG Provisioning Guidance clause 7.5.1 (storage root key).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

using Digest = std::array<std::uint8_t, 32>;  // SHA-256

using CellValue = Digest;
using CellIndex = std::uint32_t;  // an NV index of the owner's range
// Whose NV index it is: public, and part of what the chip holds of it (as an authPolicy that no
// attribute lets anybody use).
using CellTag = Digest;

struct Cell {
    CellIndex index = 0;
    CellTag tag{};
};

struct Counter {
    CellIndex index = 0;
    CellTag tag{};
};

struct Latch {
    CellIndex index = 0;
    CellTag tag{};
    std::uint64_t value = 0;  // that it was made with
};

// Values of PCRs of the SHA-256 bank, by number (0 to 23). Of a TPM 1.2: SHA-1, then 12 zero bytes.
using PcrValues = std::map<std::uint8_t, Digest>;

// Who decides which boots may unseal, by signing them.
struct Approver {
    Bytes key;           // TPM2B_PUBLIC, marshalled; what approver_key() gives
    Digest reference{};  // whose secret it is about; part of what is signed
    Counter counter;     // revokes
};

// One boot that may unseal.
struct Approval {
    PcrValues pcrs;
    std::uint64_t limit = 0;  // void once the counter is above it
    Bytes signature;  // as `openssl dgst -sha256 -sign` writes it: DER for ECDSA, raw for RSA
};

// What has to hold when a secret is unsealed.
struct Binding {
    std::optional<Approver> approver;
    std::optional<Latch> latch;
    std::vector<PcrValues> boots = {};  // of a TPM 1.2, which has nothing else: 1 to max_boots
};

inline constexpr std::size_t max_boots = 16;

enum class Generation { tpm_1_2, tpm_2_0 };

// Whether this is the identity of a TPM 1.2. Asks no chip.
bool is_tpm12(const ChipIdentity& identity);
// The boots that a TPM 1.2 has sealed this for. Errc::malformed, corrupt: it is no such object.
Result<std::vector<PcrValues>> boots_of(const SealedObject& sealed);

class Chip {
  public:
    static constexpr std::size_t cell_auth_size = 32;

    // Part 2 clause 11.1.14: what every chip takes as sealed data, in bytes.
    static constexpr std::size_t max_sealed_size = 128;
    static constexpr std::size_t max_random_size = 1024;
    static constexpr std::uint8_t max_pcr = 23;

    virtual ~Chip() = default;

    // Of the chip that is there now. Changes nothing in it.
    virtual Result<Generation> generation() { return Generation::tpm_2_0; }

    // Asks the chip who it is, over an unprotected bus: an answer to compare or to trust on first
    // use, not a proof. Of a TPM 1.2 that nobody owns it takes ownership first.
    virtual Result<ChipIdentity> identify() = 0;

    // Pins the identity. From here on every secret travels in sessions salted to `identity`'s SRK,
    // so that only the chip that owns it can take part. Errc::wrong_chip if this chip does not; the
    // pin then stays as it was. At setup there is nothing to compare with: the caller pins what
    // identify() said (trust on first use) and stores it.
    virtual Result<void> expect(const ChipIdentity& identity) = 0;

    // What follows gives Errc::invalid_argument before expect(), and for every later call
    // Errc::wrong_chip if another chip answers.

    // 1 to max_sealed_size bytes, else Errc::too_large or invalid_argument. Read back where the
    // binding lets us: without an approver, and while the latch is open. What could not be unsealed
    // later is not sealed: Errc::wrong_cell if the counter or the latch is not there any more or
    // was replaced, unsupported if the chip cannot verify with this kind of key, invalid_argument
    // if approver_key() does not give such a key.
    virtual Result<SealedObject> seal(const SecretBytes& secret, const Binding& binding) = 0;

    // Errc::wrong_chip if another chip sealed it or its bytes were changed (the chip cannot tell
    // the two apart); Errc::corrupt if it is not an object that seal() makes with this binding;
    // Errc::not_approved: the binding has an approver, and `approval` is missing, not of this boot
    // (its PCR values are not the chip's), revoked, or its signature does not verify;
    // Errc::latched: the latch is closed until the chip is reset, or it was removed or replaced
    // (then latch_closed() gives wrong_cell), which no reset mends; Errc::chip with
    // NextAction::retry: a PCR was extended just now. With several faults the approval's signature
    // is looked at first, then its boot, the counter and the latch.
    virtual Result<SecretBytes> unseal(const SealedObject& sealed, const Binding& binding,
                                       const Approval* approval) = 0;

    // Exactly `size` bytes, up to max_random_size.
    virtual Result<SecretBytes> random(std::size_t size) = 0;

    // ---- boots and who approves them; all but read_pcrs() ask no chip and need no expect() ----

    // The PCRs as they are now, over an unprotected bus: to show and to choose with. unseal() has
    // the chip compare for itself. Errc::unsupported if the chip has no SHA-256 bank of them,
    // invalid_argument for a number above max_pcr or none at all.
    virtual Result<PcrValues> read_pcrs(const std::vector<std::uint8_t>& numbers) = 0;

    // A public key in PEM ("PUBLIC KEY"; P-256, or RSA of 2048 or 3072 bits with exponent 65537),
    // as Approver::key wants it. Errc::invalid_argument for anything else, a private key too.
    virtual Result<Bytes> approver_key(std::string_view pem) = 0;
    // By which people know such a key: what `openssl pkey -pubin -outform DER | sha256sum` prints
    // (RFC 5280, SubjectPublicKeyInfo). Errc::invalid_argument if it is not what approver_key()
    // gives.
    virtual Result<Digest> approver_fingerprint(ByteView key) = 0;

    // What an approver signs: `openssl dgst -sha256 -sign KEY` over these 64 bytes, which are the
    // policy digest of [PolicyPCR, PolicyNV(counter <= limit)] and the reference (Part 3,
    // TPM2_PolicyAuthorize: aHash). Errc::invalid_argument without PCRs, or for one above max_pcr.
    virtual Result<Bytes> words_to_sign(const Approver& approver, const PcrValues& pcrs,
                                        std::uint64_t limit) = 0;

    // Checks the signature, in software; whether the approval is of this boot, and not revoked,
    // only the chip says. Errc::not_approved if it does not verify, or its PCRs are out of bounds.
    virtual Result<void> check_approval(const Approver& approver, const Approval& approval) = 0;

    // ---- NV memory ----

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

    // Makes a counter, or a latch, with its first value. Errc as define_cell(). Give them tags of
    // their own: remove_other_cells() goes by the tag.
    virtual Result<Counter> define_counter(const CellTag& tag) = 0;
    virtual Result<Latch> define_latch(const CellTag& tag) = 0;

    // Errc::wrong_cell: no such index, another tag, or not a counter.
    virtual Result<std::uint64_t> read_counter(const Counter& counter) = 0;
    // Gives the new value. After an error it may be incremented or not: read it. Errc::permission
    // if the owner hierarchy has a password.
    virtual Result<std::uint64_t> increment_counter(const Counter& counter) = 0;

    // From here on nobody unseals what is bound to the latch before the chip is reset
    // (TPM2_NV_ReadLock on an index with TPMA_NV_READ_STCLEAR). May be repeated.
    virtual Result<void> close_latch(const Latch& latch) = 0;
    // Errc::wrong_cell: the latch was removed or replaced, and opens no more.
    virtual Result<bool> latch_closed(const Latch& latch) = 0;

    // All that define_cell() would make, whoever made them: their tags say nothing to who does not
    // know them. Changes nothing, needs no expect(), over an unprotected bus.
    virtual Result<std::vector<CellIndex>> cells() = 0;

    // Gives an index of ours back to the owner, whatever it is. Errc::wrong_cell: there is none, or
    // it is not of a kind that we make.
    virtual Result<void> remove_cell(CellIndex index) = 0;
    // The same with all of this tag but the one.
    virtual Result<void> remove_other_cells(const Cell& keep) = 0;
};

}  // namespace vtpm::chip
