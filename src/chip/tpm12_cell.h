// The commit cell in a TPM 1.2: 64 bytes of NV memory, the cell's tag and its value.
//
// A TPM 1.2 cannot extend NV memory, so the new value is computed here and written: who knows the
// authorization value can write an old one back (reference/sealing.md 2.8). Reading and writing
// both need that value, and the answers' HMACs are made with it.
//
// TCG TPM Main 1.2, Part 3 clauses 20.1 (TPM_NV_DefineSpace), 20.3, 20.5. Private to the chip room.
#pragma once

#include <functional>

#include "tpm12_connection.h"

namespace vtpm::chip::tpm12 {

// The owner's authorization value, asked for only when there is something to remove.
using OwnerAuth = std::function<Result<SecretBytes>()>;

Result<CellIndex> define_cell(Tpm12Connection& connection, const SecretBytes& owner_auth,
                              const SecretBytes& auth, const CellTag& tag);
Result<std::optional<CellValue>> read_cell(Tpm12Connection& connection, const Cell& cell,
                                           const SecretBytes& auth);
Result<CellValue> extend_cell(Tpm12Connection& connection, const Cell& cell,
                              const SecretBytes& auth, const CellValue& digest);
Result<std::vector<CellIndex>> cells(Tpm12Connection& connection);
Result<void> remove_cell(Tpm12Connection& connection, const OwnerAuth& owner, CellIndex index);
Result<void> remove_other_cells(Tpm12Connection& connection, const OwnerAuth& owner,
                                const Cell& keep);

}  // namespace vtpm::chip::tpm12
