// The commit cell: an NV index of type extend. See chip.h for what it promises.
//
// Private to the chip room. Part 1 clause 37.2.4 (NV extend), Part 3 clauses 31.9 (NV_Extend),
// 31.13 (NV_Read).
#pragma once

#include "esys_connection.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip {

Result<CellIndex> define_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                     const SecretBytes& auth, const CellTag& tag);
Result<std::optional<CellValue>> read_commit_cell(EsysConnection& connection,
                                                  const LoadedHandle& srk, const Cell& cell,
                                                  const SecretBytes& auth);
Result<CellValue> extend_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                     const Cell& cell, const SecretBytes& auth,
                                     const CellValue& digest);

}  // namespace vtpm::chip
