#include "commit_cell.h"

#include <algorithm>

#include "chip_errors.h"
#include "nv_index.h"
#include "sealing.h"

namespace vtpm::chip {
namespace {

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

Result<LoadedHandle> find_cell(EsysConnection& connection, const Cell& cell) {
    VTPM_TRY(auto found, find_index(connection, cell.index));
    if (!found)
        return not_ours("is lost: its NV index was removed");
    VTPM_TRY(const auto given, read_public(connection, *found));
    if (!is_ours(given, NvKind::cell, cell.tag))
        return not_ours("was replaced: its attributes are others");
    return std::move(*found);
}

// A cell while it is used.
class CellInUse {
  public:
    CellInUse(EsysConnection& connection, LoadedHandle handle)
        : connection_(&connection), handle_(std::move(handle)) {}
    static Result<CellInUse> open(EsysConnection& connection, const Cell& cell,
                                  const SecretBytes& auth) {
        VTPM_CHECK(check_auth(auth));
        VTPM_TRY(LoadedHandle handle, find_cell(connection, cell));
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
    if (is_auth_failure(code))
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

}  // namespace

Result<CellIndex> define_commit_cell(EsysConnection& connection, const LoadedHandle& srk,
                                     const SecretBytes& auth, const CellTag& tag) {
    VTPM_CHECK(check_auth(auth));
    VTPM_TRY(NewIndex made, define_index(connection, srk, NvKind::cell, auth, tag));
    const CellInUse wiped(connection, std::move(made.handle));
    return made.index;
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

}  // namespace vtpm::chip
