#include "commit_cell.h"

#include <algorithm>

#include "chip_errors.h"
#include "sealing.h"

namespace vtpm::chip {
namespace {

// The owner's range (TCG Registry of reserved TPM 2.0 handles, 2.2.2). We look for a free place.
constexpr CellIndex first_index = 0x01800100;
constexpr CellIndex last_index = 0x018001ff;

// Its own authorization value is the only way in, for reading too: what is on the bus then carries
// an HMAC that only this index can make. noDA: a wrong guess at 256 bits must not lock the chip.
constexpr TPMA_NV cell_attributes = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA |
                                    (TPM2_NT_EXTEND << TPMA_NV_TPM2_NT_SHIFT);

TPM2B_NV_PUBLIC cell_public(const Cell& cell) {
    TPM2B_NV_PUBLIC out{};
    out.nvPublic.nvIndex = cell.index;
    out.nvPublic.nameAlg = TPM2_ALG_SHA256;
    out.nvPublic.attributes = cell_attributes;
    out.nvPublic.authPolicy.size = static_cast<UINT16>(cell.tag.size());
    std::copy(cell.tag.begin(), cell.tag.end(), out.nvPublic.authPolicy.buffer);
    out.nvPublic.dataSize = static_cast<UINT16>(std::tuple_size_v<CellValue>);
    return out;
}

// A TPM2B_AUTH that is wiped.
class AuthValue {
  public:
    explicit AuthValue(const SecretBytes& auth) {
        value_.size = static_cast<UINT16>(auth.size());
        std::copy_n(auth.view().begin(), auth.size(), value_.buffer);
    }
    AuthValue(const AuthValue&) = delete;
    AuthValue& operator=(const AuthValue&) = delete;
    ~AuthValue() { wipe({reinterpret_cast<std::uint8_t*>(&value_), sizeof value_}); }
    const TPM2B_AUTH* get() const { return &value_; }

  private:
    TPM2B_AUTH value_{};
};

Result<void> check_auth(const SecretBytes& auth) {
    if (auth.size() == Chip::cell_auth_size)
        return {};
    return fail(Errc::invalid_argument, "a cell's authorization value has 32 bytes");
}

tl::unexpected<Error> not_ours(std::string_view why) {
    return fail(Errc::wrong_cell, NextAction::ask_operator,
                "the chip's commit cell " + std::string(why) +
                    ". Nobody can prove any more that the state on the disk is the newest; if you "
                    "know that it is: vtpmctl recover");
}

// The index as ESYS needs it, with the authorization value in it.
Result<LoadedHandle> find_index(EsysConnection& connection, CellIndex index) {
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC refused = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_ReadPublic", [&] {
        refused = Esys_TR_FromTPMPublic(connection.esys(), index, ESYS_TR_NONE, ESYS_TR_NONE,
                                        ESYS_TR_NONE, &handle);
        return refused;
    });
    if (tpm_code(refused) == TPM2_RC_HANDLE)
        return not_ours("is lost: its NV index was removed");
    VTPM_CHECK(ran);
    return LoadedHandle(connection, handle, LoadedHandle::End::close);
}

Result<bool> is_cell(EsysConnection& connection, const LoadedHandle& handle, const Cell& cell) {
    EsysAnswer<TPM2B_NV_PUBLIC> given;
    VTPM_CHECK(connection.run("TPM2_NV_ReadPublic", [&] {
        TPM2B_NV_PUBLIC* answer = nullptr;
        const auto rc = Esys_NV_ReadPublic(connection.esys(), handle.get(), ESYS_TR_NONE,
                                           ESYS_TR_NONE, ESYS_TR_NONE, &answer, nullptr);
        given.reset(answer);
        return rc;
    }));
    const auto& is = given->nvPublic;
    const auto wanted = cell_public(cell).nvPublic;
    return (is.attributes & ~TPMA_NV_WRITTEN) == wanted.attributes &&
           is.nameAlg == wanted.nameAlg && is.dataSize == wanted.dataSize &&
           is.authPolicy.size == wanted.authPolicy.size &&
           std::equal(cell.tag.begin(), cell.tag.end(), is.authPolicy.buffer);
}

// A cell while it is used. What the chip says of the index travels unprotected, but a lie about it
// spoils the HMACs, which cover its Name: it is believed if the authorized command succeeds.
class CellInUse {
  public:
    CellInUse(EsysConnection& connection, LoadedHandle handle)
        : connection_(&connection), handle_(std::move(handle)) {}
    static Result<CellInUse> open(EsysConnection& connection, const Cell& cell,
                                  const SecretBytes& auth) {
        VTPM_CHECK(check_auth(auth));
        VTPM_TRY(LoadedHandle handle, find_index(connection, cell.index));
        VTPM_TRY(const bool ours, is_cell(connection, handle, cell));
        if (!ours)
            return not_ours("was replaced: its attributes are others");
        CellInUse in_use(connection, std::move(handle));
        VTPM_CHECK(in_use.set(auth));
        return in_use;
    }
    CellInUse(CellInUse&&) = default;
    CellInUse& operator=(CellInUse&&) = delete;
    CellInUse(const CellInUse&) = delete;
    CellInUse& operator=(const CellInUse&) = delete;
    // ESYS frees its copy of the authorization value without wiping it.
    ~CellInUse() {
        if (handle_.get() != ESYS_TR_NONE)
            (void)set(SecretBytes(Chip::cell_auth_size));
    }
    ESYS_TR get() const { return handle_.get(); }

  private:
    Result<void> set(const SecretBytes& auth) {
        const AuthValue value(auth);
        return connection_->run("Esys_TR_SetAuth", [&] {
            return Esys_TR_SetAuth(connection_->esys(), handle_.get(), value.get());
        });
    }

    EsysConnection* connection_;
    LoadedHandle handle_;
};

// "Authorization refused" of a command on the cell says that its authorization value is another.
Result<void> run_on_cell(EsysConnection& connection, std::string_view what,
                         const std::function<TSS2_RC()>& command) {
    TSS2_RC code = TSS2_RC_SUCCESS;
    auto ran = connection.run(what, [&] { return code = command(); });
    if (tpm_code(code) == TPM2_RC_AUTH_FAIL || tpm_code(code) == TPM2_RC_BAD_AUTH)
        return not_ours("was replaced: it does not know our authorization value");
    return ran;
}

Result<std::optional<CellValue>> read_value(EsysConnection& connection, const LoadedHandle& srk,
                                            const CellInUse& cell) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::answer));
    EsysAnswer<TPM2B_MAX_NV_BUFFER> data;
    TSS2_RC code = TSS2_RC_SUCCESS;
    auto ran = run_on_cell(connection, "TPM2_NV_Read", [&] {
        TPM2B_MAX_NV_BUFFER* answer = nullptr;
        code = Esys_NV_Read(connection.esys(), cell.get(), cell.get(), session.get(), ESYS_TR_NONE,
                            ESYS_TR_NONE, static_cast<UINT16>(std::tuple_size_v<CellValue>), 0,
                            &answer);
        data.reset(answer);
        return code;
    });
    if (tpm_code(code) == TPM2_RC_NV_UNINITIALIZED)
        return std::nullopt;
    VTPM_CHECK(ran);
    CellValue value{};
    if (data->size != value.size())
        return fail(Errc::malformed, "the chip's commit cell has another size");
    std::copy_n(data->buffer, value.size(), value.begin());
    return value;
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

}  // namespace

Result<CellIndex> define_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                     const SecretBytes& auth, const CellTag& tag) {
    VTPM_CHECK(check_auth(auth));
    CellIndex index = first_index;
    for (;; ++index) {
        if (index > last_index)
            return fail(Errc::too_large, "all NV indices that we use are taken");
        VTPM_TRY(const auto taken, next_index(connection, index));
        if (taken != index)
            break;
    }
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::command));
    const AuthValue value(auth);
    const TPM2B_NV_PUBLIC wanted = cell_public({index, tag});
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_DefineSpace", [&] {
        return code =
                   Esys_NV_DefineSpace(connection.esys(), ESYS_TR_RH_OWNER, session.get(),
                                       ESYS_TR_NONE, ESYS_TR_NONE, value.get(), &wanted, &handle);
    });
    if (tpm_code(code) == TPM2_RC_BAD_AUTH || tpm_code(code) == TPM2_RC_AUTH_FAIL) {
        return fail(Errc::permission, NextAction::ask_operator,
                    "the chip's owner hierarchy has a password, so no commit cell can be made");
    }
    if (tpm_code(code) == TPM2_RC_NV_SPACE)
        return fail(Errc::too_large, "the chip's NV memory is full");
    VTPM_CHECK(ran);
    const CellInUse made(connection, LoadedHandle(connection, handle, LoadedHandle::End::close));
    return index;
}

Result<std::optional<CellValue>> read_commit_cell(EsysConnection& connection,
                                                  const LoadedHandle& srk, const Cell& cell,
                                                  const SecretBytes& auth) {
    VTPM_TRY(const CellInUse in_use, CellInUse::open(connection, cell, auth));
    return read_value(connection, srk, in_use);
}

Result<CellValue> extend_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                     const Cell& cell, const SecretBytes& auth,
                                     const CellValue& digest) {
    VTPM_TRY(const CellInUse in_use, CellInUse::open(connection, cell, auth));
    {
        VTPM_TRY(const LoadedHandle session,
                 start_session(connection, srk, TPM2_SE_HMAC, Protect::command));
        TPM2B_MAX_NV_BUFFER data{};
        data.size = static_cast<UINT16>(digest.size());
        std::copy(digest.begin(), digest.end(), data.buffer);
        VTPM_CHECK(run_on_cell(connection, "TPM2_NV_Extend", [&] {
            return Esys_NV_Extend(connection.esys(), in_use.get(), in_use.get(), session.get(),
                                  ESYS_TR_NONE, ESYS_TR_NONE, &data);
        }));
    }
    VTPM_TRY(const auto value, read_value(connection, srk, in_use));
    if (!value)
        return fail(Errc::chip, "the commit cell is empty after an extend");
    return *value;
}

Result<void> remove_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                CellIndex index) {
    VTPM_TRY(LoadedHandle cell, find_index(connection, index));
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::nothing));
    VTPM_CHECK(connection.run("TPM2_NV_UndefineSpace", [&] {
        return Esys_NV_UndefineSpace(connection.esys(), ESYS_TR_RH_OWNER, cell.get(), session.get(),
                                     ESYS_TR_NONE, ESYS_TR_NONE);
    }));
    cell.forget();  // the command has closed the handle
    return {};
}

Result<void> remove_other_commit_cells(EsysConnection& connection, const LoadedHandle& srk,
                                       const Cell& keep) {
    for (CellIndex index = first_index; index <= last_index; ++index) {
        VTPM_TRY(const auto next, next_index(connection, index));
        if (!next || *next > last_index)
            return {};
        index = *next;
        if (index == keep.index)
            continue;
        bool ours = false;
        {
            VTPM_TRY(const LoadedHandle handle, find_index(connection, index));
            VTPM_TRY(ours, is_cell(connection, handle, {index, keep.tag}));
        }
        if (ours)
            VTPM_CHECK(remove_commit_cell(connection, srk, index));
    }
    return {};
}

}  // namespace vtpm::chip
