#include "vtpm/chip/host_chip.h"

#include "vtpm/chip/kernel_devices.h"

namespace vtpm::chip {

HostChip::HostChip(const std::string& tcti, std::string tpm12_owner_file)
    : tcti_(tcti), esys_(tcti), tpm12_(tcti, std::move(tpm12_owner_file)) {}

Result<Chip*> HostChip::chip() {
    if (is_ != nullptr)
        return is_;
    auto generation = generation_by_kernel(present_tcti(tcti_));
    if (!generation) {
        auto asked = esys_.generation();
        const bool there = asked || (asked.error().code != Errc::unavailable &&
                                     asked.error().code != Errc::in_use);
        // tpm2-tss does not tell an answer of a TPM 1.2 from a broken one: ask it in its own words.
        if (!asked && there && tpm12_.generation())
            asked = Generation::tpm_1_2;
        VTPM_TRY(generation, std::move(asked));
    }
    is_ = &esys_;
    if (*generation == Generation::tpm_1_2)
        is_ = &tpm12_;
    return is_;
}

Result<Generation> HostChip::generation() {
    VTPM_TRY(Chip* const to, chip());
    return to->generation();
}

Result<ChipIdentity> HostChip::identify() {
    VTPM_TRY(Chip* const to, chip());
    return to->identify();
}

Result<void> HostChip::expect(const ChipIdentity& identity) {
    VTPM_TRY(Chip* const to, chip());
    return to->expect(identity);
}

Result<SealedObject> HostChip::seal(const SecretBytes& secret, const Binding& binding) {
    VTPM_TRY(Chip* const to, chip());
    return to->seal(secret, binding);
}

Result<SecretBytes> HostChip::unseal(const SealedObject& sealed, const Binding& binding,
                                     const Approval* approval) {
    VTPM_TRY(Chip* const to, chip());
    return to->unseal(sealed, binding, approval);
}

Result<SecretBytes> HostChip::random(std::size_t size) {
    VTPM_TRY(Chip* const to, chip());
    return to->random(size);
}

Result<PcrValues> HostChip::read_pcrs(const std::vector<std::uint8_t>& numbers) {
    VTPM_TRY(Chip* const to, chip());
    return to->read_pcrs(numbers);
}

Result<Bytes> HostChip::approver_key(std::string_view pem) {
    return esys_.approver_key(pem);  // asks no chip
}

Result<Digest> HostChip::approver_fingerprint(ByteView key) {
    return esys_.approver_fingerprint(key);  // asks no chip
}

Result<Bytes> HostChip::words_to_sign(const Approver& approver, const PcrValues& pcrs,
                                      std::uint64_t limit) {
    return esys_.words_to_sign(approver, pcrs, limit);  // asks no chip
}

Result<void> HostChip::check_approval(const Approver& approver, const Approval& approval) {
    return esys_.check_approval(approver, approval);  // asks no chip
}

Result<CellIndex> HostChip::define_cell(const SecretBytes& auth, const CellTag& tag) {
    VTPM_TRY(Chip* const to, chip());
    return to->define_cell(auth, tag);
}

Result<std::optional<CellValue>> HostChip::read_cell(const Cell& cell, const SecretBytes& auth) {
    VTPM_TRY(Chip* const to, chip());
    return to->read_cell(cell, auth);
}

Result<CellValue> HostChip::extend_cell(const Cell& cell, const SecretBytes& auth,
                                        const CellValue& digest) {
    VTPM_TRY(Chip* const to, chip());
    return to->extend_cell(cell, auth, digest);
}

Result<Counter> HostChip::define_counter(const CellTag& tag) {
    VTPM_TRY(Chip* const to, chip());
    return to->define_counter(tag);
}

Result<Latch> HostChip::define_latch(const CellTag& tag) {
    VTPM_TRY(Chip* const to, chip());
    return to->define_latch(tag);
}

Result<std::uint64_t> HostChip::read_counter(const Counter& counter) {
    VTPM_TRY(Chip* const to, chip());
    return to->read_counter(counter);
}

Result<std::uint64_t> HostChip::increment_counter(const Counter& counter) {
    VTPM_TRY(Chip* const to, chip());
    return to->increment_counter(counter);
}

Result<void> HostChip::close_latch(const Latch& latch) {
    VTPM_TRY(Chip* const to, chip());
    return to->close_latch(latch);
}

Result<bool> HostChip::latch_closed(const Latch& latch) {
    VTPM_TRY(Chip* const to, chip());
    return to->latch_closed(latch);
}

Result<std::vector<CellIndex>> HostChip::cells() {
    VTPM_TRY(Chip* const to, chip());
    return to->cells();
}

Result<void> HostChip::remove_cell(CellIndex index) {
    VTPM_TRY(Chip* const to, chip());
    return to->remove_cell(index);
}

Result<void> HostChip::remove_other_cells(const Cell& keep) {
    VTPM_TRY(Chip* const to, chip());
    return to->remove_other_cells(keep);
}

}  // namespace vtpm::chip
