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

// For who does nothing but a policy command with it: the index if it has the Name of what was
// defined, or else an error with `errc`, "WHAT was removed", "WHAT was replaced".
Result<LoadedHandle> find_counter(EsysConnection& connection, const Counter& counter, Errc errc,
                                  std::string_view what);
Result<LoadedHandle> find_latch(EsysConnection& connection, const Latch& latch, Errc errc,
                                std::string_view what);

}  // namespace vtpm::chip
