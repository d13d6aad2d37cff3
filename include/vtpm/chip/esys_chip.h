// EsysChip: a Chip behind tpm2-tss (ESAPI 3.2), on a kernel device or on a swtpm.
//
// Owns the TCTI and ESYS contexts. Between two calls it holds no object and no session in the chip.
// After the chip went away (a call gave Errc::unavailable) the next call connects again. One
// thread.
//
// The first call of open() in a process sets TSS2_LOG=all+NONE if TSS2_LOG is unset: tpm2-tss
// prints its own view of every error to standard error, and what we have to say about it is in the
// Error. So call it before starting threads (setenv(3)).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "vtpm/chip/chip.h"

namespace vtpm::chip {

class EsysConnection;
class LoadedHandle;

class EsysChip : public Chip {
  public:
    // `tcti` as tss2-tctildr(3) has it: "device:/dev/tpm0", "swtpm:path=/run/x/sock".
    // Errc::unavailable: no chip there; in_use: somebody else has the device open; permission.
    static Result<std::unique_ptr<EsysChip>> open(const std::string& tcti);
    // Connects with the first call: for a daemon that has to come up without its chip, too.
    explicit EsysChip(std::string tcti);
    ~EsysChip() override;

    // An error for a chip that is no TPM 2.0.
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
    Result<EsysConnection*> connection();
    // Runs `operation` with the pinned SRK loaded, and wipes what it left in tpm2-tss' buffers.
    template <typename Operation>
    auto with_srk(Operation operation) -> decltype(operation(std::declval<EsysConnection&>(),
                                                             std::declval<const LoadedHandle&>()));

    std::string tcti_;
    std::unique_ptr<EsysConnection> connection_;  // null: not connected
    std::optional<ChipIdentity> pinned_;
};

}  // namespace vtpm::chip
