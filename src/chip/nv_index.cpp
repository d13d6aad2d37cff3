#include "nv_index.h"

#include <algorithm>
#include <functional>

#include "chip_errors.h"
#include "sealing.h"

namespace vtpm::chip {
namespace {

// We look for a free place here.
constexpr CellIndex first_index = 0x01800100;
constexpr CellIndex last_index = 0x018001ff;

constexpr std::array all_kinds{NvKind::cell, NvKind::counter, NvKind::latch};

constexpr TPMA_NV of_type(TPM2_NT type) {
    return static_cast<TPMA_NV>(type) << TPMA_NV_TPM2_NT_SHIFT;
}

TPM2B_NV_PUBLIC public_of(NvKind kind, CellIndex index, const CellTag& tag) {
    TPM2B_NV_PUBLIC out{};
    out.nvPublic.nvIndex = index;
    out.nvPublic.nameAlg = TPM2_ALG_SHA256;
    out.nvPublic.attributes = attributes_of(kind);
    out.nvPublic.authPolicy.size = static_cast<UINT16>(tag.size());
    std::copy(tag.begin(), tag.end(), out.nvPublic.authPolicy.buffer);
    out.nvPublic.dataSize = data_size_of(kind);
    return out;
}

// The first index that is defined, from this one on.
Result<std::optional<CellIndex>> next_index(EsysConnection& connection, CellIndex from) {
    EsysAnswer<TPMS_CAPABILITY_DATA> found;
    VTPM_CHECK(connection.run("TPM2_GetCapability", [&] {
        TPMS_CAPABILITY_DATA* answer = nullptr;
        const auto rc =
            Esys_GetCapability(connection.esys(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                               TPM2_CAP_HANDLES, from, 1, nullptr, &answer);
        found.reset(answer);
        return rc;
    }));
    const auto& handles = found->data.handles;
    if (handles.count == 0 || handles.handle[0] < from)
        return std::nullopt;
    return handles.handle[0];
}

Result<CellIndex> free_index(EsysConnection& connection) {
    for (CellIndex index = first_index; index <= last_index; ++index) {
        VTPM_TRY(const auto taken, next_index(connection, index));
        if (taken != index)
            return index;
    }
    return fail(Errc::too_large, "all NV indices that we use are taken");
}

// By any tag.
bool is_of_kind(const TPMS_NV_PUBLIC& given, NvKind kind) {
    CellTag tag{};
    std::copy_n(given.authPolicy.buffer, tag.size(), tag.begin());
    return is_ours(given, kind, tag);
}

bool is_of_our_kinds(const TPMS_NV_PUBLIC& given) {
    return std::ranges::any_of(all_kinds, [&](NvKind kind) { return is_of_kind(given, kind); });
}

// Those of our range but one, as they are found: `each` may remove what it is given.
Result<void> visit_indices(
    EsysConnection& connection, CellIndex but,
    const std::function<Result<void>(LoadedHandle, const TPMS_NV_PUBLIC&)>& each) {
    for (CellIndex index = first_index; index <= last_index; ++index) {
        VTPM_TRY(const auto next, next_index(connection, index));
        if (!next || *next > last_index)
            return {};
        index = *next;
        if (index == but)
            continue;
        VTPM_TRY(auto found, find_index(connection, index));
        if (!found)
            continue;
        VTPM_TRY(const auto given, read_public(connection, *found));
        VTPM_CHECK(each(std::move(*found), given));
    }
    return {};
}

Result<void> undefine(EsysConnection& connection, const LoadedHandle& srk, LoadedHandle index) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::nothing));
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_UndefineSpace", [&] {
        return code = Esys_NV_UndefineSpace(connection.esys(), ESYS_TR_RH_OWNER, index.get(),
                                            session.get(), ESYS_TR_NONE, ESYS_TR_NONE);
    });
    if (is_auth_failure(code))
        return owner_has_password("no NV index can be removed");
    VTPM_CHECK(ran);
    index.forget();  // the command has closed the handle
    return {};
}

}  // namespace

TPMA_NV attributes_of(NvKind kind) {
    switch (kind) {
        case NvKind::cell:
            // Its own authorization value is the only way in, for reading too: what is on the bus
            // then carries an HMAC that only this index can make. noDA: a wrong guess at 256 bits
            // must not lock the chip.
            return TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA | of_type(TPM2_NT_EXTEND);
        case NvKind::counter:
            // A counter, whatever it is used for: a new one begins above all that ever were.
            return TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA | of_type(TPM2_NT_COUNTER);
        case NvKind::latch:
            return TPMA_NV_AUTHREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA | TPMA_NV_READ_STCLEAR |
                   of_type(TPM2_NT_COUNTER);
    }
    return 0;
}

std::uint16_t data_size_of(NvKind kind) {
    return kind == NvKind::cell ? std::tuple_size_v<CellValue> : sizeof(std::uint64_t);
}

AuthValue::AuthValue(const SecretBytes& auth) {
    value_.size = static_cast<UINT16>(auth.size());
    std::copy_n(auth.view().begin(), auth.size(), value_.buffer);
}

AuthValue::~AuthValue() {
    wipe({reinterpret_cast<std::uint8_t*>(&value_), sizeof value_});
}

bool is_auth_failure(TSS2_RC rc) {
    const TSS2_RC code = tpm_code(rc);
    return code == TPM2_RC_AUTH_FAIL || code == TPM2_RC_BAD_AUTH;
}

tl::unexpected<Error> owner_has_password(std::string_view what) {
    return fail(Errc::permission, NextAction::ask_operator,
                "the chip's owner hierarchy has a password, so " + std::string(what));
}

Result<std::optional<LoadedHandle>> find_index(EsysConnection& connection, CellIndex index) {
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC refused = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_ReadPublic", [&] {
        refused = Esys_TR_FromTPMPublic(connection.esys(), index, ESYS_TR_NONE, ESYS_TR_NONE,
                                        ESYS_TR_NONE, &handle);
        return refused;
    });
    if (tpm_code(refused) == TPM2_RC_HANDLE)
        return std::nullopt;
    VTPM_CHECK(ran);
    return LoadedHandle(connection, handle, LoadedHandle::End::close);
}

Result<TPMS_NV_PUBLIC> read_public(EsysConnection& connection, const LoadedHandle& handle) {
    EsysAnswer<TPM2B_NV_PUBLIC> given;
    VTPM_CHECK(connection.run("TPM2_NV_ReadPublic", [&] {
        TPM2B_NV_PUBLIC* answer = nullptr;
        const auto rc = Esys_NV_ReadPublic(connection.esys(), handle.get(), ESYS_TR_NONE,
                                           ESYS_TR_NONE, ESYS_TR_NONE, &answer, nullptr);
        given.reset(answer);
        return rc;
    }));
    return given->nvPublic;
}

bool is_ours(const TPMS_NV_PUBLIC& given, NvKind kind, const CellTag& tag) {
    const auto wanted = public_of(kind, given.nvIndex, tag).nvPublic;
    constexpr TPMA_NV changing = TPMA_NV_WRITTEN | TPMA_NV_READLOCKED;
    return (given.attributes & ~changing) == wanted.attributes && given.nameAlg == wanted.nameAlg &&
           given.dataSize == wanted.dataSize && given.authPolicy.size == wanted.authPolicy.size &&
           std::equal(tag.begin(), tag.end(), given.authPolicy.buffer);
}

Result<NewIndex> define_index(EsysConnection& connection, const LoadedHandle& srk, NvKind kind,
                              const SecretBytes& auth, const CellTag& tag) {
    VTPM_TRY(const CellIndex index, free_index(connection));
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::command));
    const AuthValue value(auth);
    const TPM2B_NV_PUBLIC wanted = public_of(kind, index, tag);
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_DefineSpace", [&] {
        return code =
                   Esys_NV_DefineSpace(connection.esys(), ESYS_TR_RH_OWNER, session.get(),
                                       ESYS_TR_NONE, ESYS_TR_NONE, value.get(), &wanted, &handle);
    });
    if (is_auth_failure(code))
        return owner_has_password("no NV index can be made");
    if (tpm_code(code) == TPM2_RC_NV_SPACE)
        return fail(Errc::too_large, "the chip's NV memory is full");
    VTPM_CHECK(ran);
    return NewIndex{index, LoadedHandle(connection, handle, LoadedHandle::End::close)};
}

Result<std::vector<CellIndex>> cell_indices(EsysConnection& connection) {
    std::vector<CellIndex> cells;
    VTPM_CHECK(visit_indices(connection, 0,
                             [&](const LoadedHandle&, const TPMS_NV_PUBLIC& given) -> Result<void> {
                                 if (is_of_kind(given, NvKind::cell))
                                     cells.push_back(given.nvIndex);
                                 return {};
                             }));
    return cells;
}

Result<void> remove_index(EsysConnection& connection, const LoadedHandle& srk, CellIndex index) {
    VTPM_TRY(auto found, find_index(connection, index));
    if (!found)
        return fail(Errc::wrong_cell, "the chip has no such NV index");
    VTPM_TRY(const auto given, read_public(connection, *found));
    if (index < first_index || index > last_index || !is_of_our_kinds(given)) {
        return fail(Errc::wrong_cell, "NV index 0x" + to_hex(ByteWriter().u32(index).written()) +
                                          " is somebody else's, and stays");
    }
    return undefine(connection, srk, std::move(*found));
}

Result<void> remove_other_indices(EsysConnection& connection, const LoadedHandle& srk,
                                  const Cell& keep) {
    return visit_indices(connection, keep.index,
                         [&](LoadedHandle found, const TPMS_NV_PUBLIC& given) -> Result<void> {
                             const bool of_tag = std::ranges::any_of(all_kinds, [&](NvKind kind) {
                                 return is_ours(given, kind, keep.tag);
                             });
                             if (!of_tag)
                                 return {};
                             return undefine(connection, srk, std::move(found));
                         });
}

}  // namespace vtpm::chip
