// The revocation counter and the boot latch: NV indices of type counter. See chip.h for what they
// promise.
//
// Private to the chip room. Part 1 clause 37.2.3 (NV counters), Part 3 clauses 31.8 (NV_Increment),
// 31.14 (NV_ReadLock).
#pragma once

#include "nv_index.h"

namespace vtpm::chip {

Result<Counter> define_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                  const CellTag& tag);
Result<Latch> define_nv_latch(EsysConnection& connection, const LoadedHandle& srk,
                              const CellTag& tag);

Result<std::uint64_t> read_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                      const Counter& counter);
Result<std::uint64_t> increment_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                           const Counter& counter);

Result<void> close_nv_latch(EsysConnection& connection, const LoadedHandle& srk,
                            const Latch& latch);
Result<bool> nv_latch_closed(EsysConnection& connection, const LoadedHandle& srk,
                             const Latch& latch);

// What was defined with this tag and is still there, or else an error with `errc`, "WHAT was
// removed", "WHAT was replaced": for who does nothing but a policy command with it.
Result<LoadedHandle> find_counter(EsysConnection& connection, NvKind kind, CellIndex index,
                                  const CellTag& tag, Errc errc, std::string_view what);

}  // namespace vtpm::chip
