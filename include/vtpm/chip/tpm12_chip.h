// Tpm12Chip: a Chip behind a client of our own for TPM 1.2, on a kernel device or on a swtpm.
//
// Legacy: see chip.h for what it cannot do, and docs/decisions/0008 for why. Between two calls it
// holds no session in the chip. After the chip went away the next call connects again, and has it
// prove once more that it is the pinned one. One thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "vtpm/chip/chip.h"

namespace vtpm::chip {

namespace tpm12 {
class Tpm12Connection;
}

class Tpm12Chip : public Chip {
  public:
    // `tcti`: "device:/dev/tpm0" or "swtpm:path=/run/x/sock"; connects with the first call.
    // `owner_file`: with the owner's authorization value, 40 hexadecimal digits, read when it is
    // needed; empty: the well-known one.
    explicit Tpm12Chip(std::string tcti, std::string owner_file = {});
    ~Tpm12Chip() override;

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
    Result<tpm12::Tpm12Connection*> connection();
    Result<tpm12::Tpm12Connection*> pinned_connection();

    std::string tcti_;
    std::string owner_file_;
    std::unique_ptr<tpm12::Tpm12Connection> connection_;  // null: not connected
    std::optional<ChipIdentity> pinned_;
    bool proved_ = false;  // on this connection
};

}  // namespace vtpm::chip
