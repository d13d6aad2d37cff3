// What commit cells, counters and latches share: NV indices of the owner's range, told apart by
// their attributes and by a tag.
//
// Private to the chip room. Part 1 clause 37.2, Part 2 clause 13 (NV attributes), Part 3 clauses
// 31.3 (DefineSpace), 31.4 (UndefineSpace); TCG Registry of reserved TPM 2.0 handles, 2.2.2.
#pragma once

#include "esys_connection.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip {

enum class NvKind { cell, counter, latch };

TPMA_NV attributes_of(NvKind kind);
std::uint16_t data_size_of(NvKind kind);

// A TPM2B_AUTH that is wiped.
class AuthValue {
  public:
    explicit AuthValue(const SecretBytes& auth);
    AuthValue(const AuthValue&) = delete;
    AuthValue& operator=(const AuthValue&) = delete;
    ~AuthValue();
    const TPM2B_AUTH* get() const { return &value_; }

  private:
    TPM2B_AUTH value_{};
};

// Is this an answer to a wrong authorization value?
bool is_auth_failure(TSS2_RC rc);

tl::unexpected<Error> owner_has_password(std::string_view what);

// An index that is defined, as ESYS needs it; empty if there is none of this number.
Result<std::optional<LoadedHandle>> find_index(EsysConnection& connection, CellIndex index);

// What the chip says of it travels unprotected. A lie about it spoils HMACs and policies, which
// cover its Name: it is believed if the command that follows succeeds.
Result<TPMS_NV_PUBLIC> read_public(EsysConnection& connection, const LoadedHandle& handle);

// But for what changes while it lives: whether it was written, and whether it is locked.
bool is_ours(const TPMS_NV_PUBLIC& given, NvKind kind, const CellTag& tag);

// Makes one at the first free index of ours.
struct NewIndex {
    CellIndex index;
    LoadedHandle handle;  // with the authorization value in it, if there is one
};
Result<NewIndex> define_index(EsysConnection& connection, const LoadedHandle& srk, NvKind kind,
                              const SecretBytes& auth, const CellTag& tag);

// Of commit cells, by any tag.
Result<std::vector<CellIndex>> cell_indices(EsysConnection& connection);

Result<void> remove_index(EsysConnection& connection, const LoadedHandle& srk, CellIndex index);
Result<void> remove_other_indices(EsysConnection& connection, const LoadedHandle& srk,
                                  const Cell& keep);

}  // namespace vtpm::chip
