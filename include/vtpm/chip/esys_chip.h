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

    Result<ChipIdentity> identify() override;
    Result<void> expect(const ChipIdentity& identity) override;
    Result<SealedObject> seal(const SecretBytes& secret) override;
    Result<SecretBytes> unseal(const SealedObject& sealed) override;
    Result<SecretBytes> random(std::size_t size) override;
    Result<CellIndex> define_cell(const SecretBytes& auth, const CellTag& tag) override;
    Result<std::optional<CellValue>> read_cell(const Cell& cell, const SecretBytes& auth) override;
    Result<CellValue> extend_cell(const Cell& cell, const SecretBytes& auth,
                                  const CellValue& digest) override;
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
