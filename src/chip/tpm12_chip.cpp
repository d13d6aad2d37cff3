#include "vtpm/chip/tpm12_chip.h"

#include <openssl/sha.h>

#include "tpm12_boots.h"
#include "tpm12_cell.h"
#include "tpm12_connection.h"
#include "tpm12_ownership.h"
#include "tpm12_sealing.h"
#include "vtpm/chip/kernel_devices.h"

namespace vtpm::chip {
namespace {

using tpm12::Tpm12Connection;

constexpr std::size_t identity_size = 32;
constexpr std::uint16_t name_algorithm = 0x000b;  // SHA-256, as of a TPM 2.0's Names

tl::unexpected<Error> unsupported(std::string_view what) {
    return fail(Errc::unsupported, "the host's chip is a TPM 1.2, which has no " +
                                       std::string(what) + " (see vtpmctl status)");
}

Bytes name_of(const SecretBytes& secret) {
    Digest digest{};
    ::SHA256(secret.view().data(), secret.size(), digest.data());
    return ByteWriter().u16(name_algorithm).bytes(digest).take();
}

Result<SecretBytes> random_bytes(Tpm12Connection& to, std::size_t size) {
    SecretBytes all(size);
    for (std::size_t have = 0; have < size;) {
        const Bytes wanted = tpm12::u32_bytes(static_cast<std::uint32_t>(size - have));
        VTPM_TRY(const SecretBytes part, to.run(tpm12::Ordinal::get_random, {.parts = {wanted}}));
        ByteReader reader(part.view());
        VTPM_TRY(const auto count, reader.u32());
        if (count == 0 || count != reader.left() || count > size - have)
            return fail(Errc::malformed, NextAction::ask_operator,
                        "TPM_GetRandom: the chip's answer does not parse");
        std::copy_n(reader.rest().begin(), count, all.span().begin() + static_cast<long>(have));
        have += count;
    }
    return all;
}

// TPM_CAP_VERSION_INFO, Part 2 clause 21.6: who made it, and what firmware it runs.
Result<void> describe(Tpm12Connection& to, ChipIdentity& into) {
    VTPM_TRY(const SecretBytes about, to.capability(tpm12::cap_version_value, {}));
    ByteReader reader(about.view());
    VTPM_CHECK(reader.u16());
    VTPM_CHECK(reader.u16());  // 1.2
    VTPM_TRY(const auto major, reader.u8());
    VTPM_TRY(const auto minor, reader.u8());
    VTPM_CHECK(reader.bytes(3));
    VTPM_TRY(const ByteView vendor, reader.bytes(4));
    for (const std::uint8_t letter : vendor) {
        if (letter > ' ' && letter < 0x7f)
            into.manufacturer.push_back(static_cast<char>(letter));
    }
    into.firmware = "TPM 1.2, " + std::to_string(major) + "." + std::to_string(minor);
    return {};
}

// What the storage root key of the identity has sealed, only its chip unseals.
Result<void> prove(Tpm12Connection& to, const ChipIdentity& identity) {
    const ByteView blob = ByteView(identity.srk_public).subspan(tpm12::identity_magic.size());
    VTPM_TRY(const SecretBytes secret, tpm12::unseal_blob(to, blob));
    if (!equal_constant_time(name_of(secret), identity.srk_name))
        return fail(Errc::wrong_chip, "this is not the chip of the set-up");
    return {};
}

}  // namespace

Tpm12Chip::Tpm12Chip(std::string tcti, std::string owner_file)
    : tcti_(std::move(tcti)), owner_file_(std::move(owner_file)) {}

Tpm12Chip::~Tpm12Chip() = default;

Result<Tpm12Connection*> Tpm12Chip::connection() {
    if (connection_ && connection_->broken())
        connection_.reset();
    if (!connection_) {
        proved_ = false;
        VTPM_TRY(connection_, Tpm12Connection::open(present_tcti(tcti_)));
    }
    return connection_.get();
}

Result<Tpm12Connection*> Tpm12Chip::pinned_connection() {
    if (!pinned_)
        return fail(Errc::invalid_argument, "no chip identity is pinned");
    VTPM_TRY(Tpm12Connection* const to, connection());
    if (!proved_)
        VTPM_CHECK(prove(*to, *pinned_));
    proved_ = true;
    return to;
}

Result<Generation> Tpm12Chip::generation() {
    VTPM_CHECK(connection());
    return Generation::tpm_1_2;
}

Result<ChipIdentity> Tpm12Chip::identify() {
    VTPM_TRY(Tpm12Connection* const to, connection());
    VTPM_TRY(const bool owned, tpm12::has_owner(*to));
    if (!owned) {
        VTPM_TRY(const SecretBytes auth, tpm12::read_owner_auth(owner_file_));
        VTPM_CHECK(tpm12::take_ownership(*to, auth));
    }
    ChipIdentity identity;
    VTPM_CHECK(describe(*to, identity));
    VTPM_TRY(const SecretBytes secret, random_bytes(*to, identity_size));
    VTPM_TRY(const Bytes blob, tpm12::seal_blob(*to, secret.view(), nullptr));
    identity.srk_public = ByteWriter().bytes(as_bytes(tpm12::identity_magic)).bytes(blob).take();
    identity.srk_name = name_of(secret);
    return identity;
}

Result<void> Tpm12Chip::expect(const ChipIdentity& identity) {
    if (!is_tpm12(identity))
        return fail(Errc::wrong_chip, NextAction::ask_operator,
                    "the vault was set up with a TPM 2.0, and this chip is a TPM 1.2");
    VTPM_TRY(Tpm12Connection* const to, connection());
    VTPM_CHECK(prove(*to, identity));
    pinned_ = identity;
    proved_ = true;
    return {};
}

Result<SealedObject> Tpm12Chip::seal(const SecretBytes& secret, const Binding& binding) {
    if (secret.empty())
        return fail(Errc::invalid_argument, "nothing to seal");
    if (secret.size() > max_sealed_size)
        return fail(Errc::too_large, "more than the chip takes at once");
    if (binding.approver)
        return unsupported("approvers");
    if (binding.latch)
        return unsupported("boot latch");
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::seal_for_boots(*to, secret, binding.boots);
}

Result<SecretBytes> Tpm12Chip::unseal(const SealedObject& sealed, const Binding& binding,
                                      const Approval* approval) {
    if (binding.approver || approval != nullptr)
        return unsupported("approvers");
    if (binding.latch)
        return unsupported("boot latch");
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::unseal_for_boot(*to, sealed);
}

Result<SecretBytes> Tpm12Chip::random(std::size_t size) {
    if (size == 0)
        return fail(Errc::invalid_argument, "nothing to ask the chip for");
    if (size > max_random_size)
        return fail(Errc::too_large, "more than the chip takes at once");
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return random_bytes(*to, size);
}

Result<PcrValues> Tpm12Chip::read_pcrs(const std::vector<std::uint8_t>& numbers) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::read_pcr_values(*to, numbers);
}

Result<Bytes> Tpm12Chip::approver_key(std::string_view) {
    return unsupported("approvers");
}

Result<Digest> Tpm12Chip::approver_fingerprint(ByteView) {
    return unsupported("approvers");
}

Result<Bytes> Tpm12Chip::words_to_sign(const Approver&, const PcrValues&, std::uint64_t) {
    return unsupported("approvers");
}

Result<void> Tpm12Chip::check_approval(const Approver&, const Approval&) {
    return unsupported("approvers");
}

Result<CellIndex> Tpm12Chip::define_cell(const SecretBytes& auth, const CellTag& tag) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    VTPM_TRY(const SecretBytes owner, tpm12::read_owner_auth(owner_file_));
    return tpm12::define_cell(*to, owner, auth, tag);
}

Result<std::optional<CellValue>> Tpm12Chip::read_cell(const Cell& cell, const SecretBytes& auth) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::read_cell(*to, cell, auth);
}

Result<CellValue> Tpm12Chip::extend_cell(const Cell& cell, const SecretBytes& auth,
                                         const CellValue& digest) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::extend_cell(*to, cell, auth, digest);
}

Result<Counter> Tpm12Chip::define_counter(const CellTag&) {
    return unsupported("revocation counter");
}

Result<Latch> Tpm12Chip::define_latch(const CellTag&) {
    return unsupported("boot latch");
}

Result<std::uint64_t> Tpm12Chip::read_counter(const Counter&) {
    return unsupported("revocation counter");
}

Result<std::uint64_t> Tpm12Chip::increment_counter(const Counter&) {
    return unsupported("revocation counter");
}

Result<void> Tpm12Chip::close_latch(const Latch&) {
    return unsupported("boot latch");
}

Result<bool> Tpm12Chip::latch_closed(const Latch&) {
    return unsupported("boot latch");
}

Result<std::vector<CellIndex>> Tpm12Chip::cells() {
    VTPM_TRY(Tpm12Connection* const to, connection());
    return tpm12::cells(*to);
}

Result<void> Tpm12Chip::remove_cell(CellIndex index) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::remove_cell(
        *to, [this] { return tpm12::read_owner_auth(owner_file_); }, index);
}

Result<void> Tpm12Chip::remove_other_cells(const Cell& keep) {
    VTPM_TRY(Tpm12Connection* const to, pinned_connection());
    return tpm12::remove_other_cells(
        *to, [this] { return tpm12::read_owner_auth(owner_file_); }, keep);
}

}  // namespace vtpm::chip
