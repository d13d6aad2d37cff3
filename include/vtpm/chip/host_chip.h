// HostChip: the Chip of this host, whichever generation it is of: an EsysChip or a Tpm12Chip.
//
// Of a device the kernel knows it. Else the first answers of the chip decide, once for the life of
// this object: what does not take a command of TPM 2.0 is asked as a TPM 1.2. Connects with the
// first call. One thread.
#pragma once

#include <string>

#include "vtpm/chip/esys_chip.h"
#include "vtpm/chip/tpm12_chip.h"

namespace vtpm::chip {

class HostChip : public Chip {
  public:
    // As EsysChip and Tpm12Chip have them.
    HostChip(const std::string& tcti, std::string tpm12_owner_file);

    Result<Generation> generation() override;
    Result<ChipIdentity> identify() override;
    Result<void> expect(const ChipIdentity& identity) override;
    Result<SealedObject> seal(const SecretBytes& secret, const Binding& binding) override;
    Result<SecretBytes> unseal(const SealedObject& sealed, const Binding& binding,
                               const Approval* approval) override;
    Result<SecretBytes> random(std::size_t size) override;
    Result<PcrValues> read_pcrs(const std::vector<std::uint8_t>& numbers) override;
    Result<Bytes> approver_key(std::string_view pem) override;
    Result<Digest> approver_fingerprint(ByteView key) override;
    Result<Bytes> words_to_sign(const Approver& approver, const PcrValues& pcrs,
                                std::uint64_t limit) override;
    Result<void> check_approval(const Approver& approver, const Approval& approval) override;
    Result<CellIndex> define_cell(const SecretBytes& auth, const CellTag& tag) override;
    Result<std::optional<CellValue>> read_cell(const Cell& cell, const SecretBytes& auth) override;
    Result<CellValue> extend_cell(const Cell& cell, const SecretBytes& auth,
                                  const CellValue& digest) override;
    Result<Counter> define_counter(const CellTag& tag) override;
    Result<Latch> define_latch(const CellTag& tag) override;
    Result<std::uint64_t> read_counter(const Counter& counter) override;
    Result<std::uint64_t> increment_counter(const Counter& counter) override;
    Result<void> close_latch(const Latch& latch) override;
    Result<bool> latch_closed(const Latch& latch) override;
    Result<std::vector<CellIndex>> cells() override;
    Result<void> remove_cell(CellIndex index) override;
    Result<void> remove_other_cells(const Cell& keep) override;

  private:
    Result<Chip*> chip();

    std::string tcti_;
    EsysChip esys_;
    Tpm12Chip tpm12_;
    Chip* is_ = nullptr;  // null: nobody has answered yet
};

}  // namespace vtpm::chip
