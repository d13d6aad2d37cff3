#include "nv_counter.h"

#include <algorithm>

#include "chip_errors.h"
#include "policy_digest.h"
#include "sealing.h"

namespace vtpm::chip {
namespace {

constexpr std::string_view counter_words = "the chip's revocation counter";
constexpr std::string_view latch_words = "the chip's boot latch";

struct Reading {
    std::uint64_t value = 0;
    bool locked = false;
};

// Authorized with the index's own value, which is empty. The session is salted, so that only the
// chip can answer, and its HMAC covers the index's Name.
Result<Reading> read_value(EsysConnection& connection, const LoadedHandle& srk,
                           const LoadedHandle& index) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::answer));
    EsysAnswer<TPM2B_MAX_NV_BUFFER> data;
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_Read", [&] {
        TPM2B_MAX_NV_BUFFER* answer = nullptr;
        code = Esys_NV_Read(connection.esys(), index.get(), index.get(), session.get(),
                            ESYS_TR_NONE, ESYS_TR_NONE, data_size_of(NvKind::counter), 0, &answer);
        data.reset(answer);
        return code;
    });
    if (tpm_code(code) == TPM2_RC_NV_LOCKED)
        return Reading{0, true};
    if (tpm_code(code) == TPM2_RC_NV_UNINITIALIZED)
        return fail(Errc::wrong_cell, "a counter of the chip was made and never given a value");
    VTPM_CHECK(ran);
    ByteReader reader({data->buffer, std::min<std::size_t>(data->size, sizeof data->buffer)});
    VTPM_TRY(const std::uint64_t value, reader.u64());
    if (reader.left() != 0)
        return fail(Errc::malformed, "a counter of the chip has another size");
    return Reading{value, false};
}

Result<void> increment(EsysConnection& connection, const LoadedHandle& srk,
                       const LoadedHandle& index) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::nothing));
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_NV_Increment", [&] {
        return code = Esys_NV_Increment(connection.esys(), ESYS_TR_RH_OWNER, index.get(),
                                        session.get(), ESYS_TR_NONE, ESYS_TR_NONE);
    });
    if (is_auth_failure(code))
        return owner_has_password("no counter can be incremented");
    return ran;
}

// TPM2_NV_ReadLock succeeds on what is locked already. The command carries the index's Name, which
// says whether it was locked: a chip where that is not so refuses it and does nothing.
Result<void> lock(EsysConnection& connection, const LoadedHandle& srk, const LoadedHandle& index) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::nothing));
    return connection.run("TPM2_NV_ReadLock", [&] {
        return Esys_NV_ReadLock(connection.esys(), index.get(), index.get(), session.get(),
                                ESYS_TR_NONE, ESYS_TR_NONE);
    });
}

struct Defined {
    CellIndex index;
    std::uint64_t value;
};

Result<Defined> define(EsysConnection& connection, const LoadedHandle& srk, NvKind kind,
                       const CellTag& tag) {
    VTPM_TRY(NewIndex made, define_index(connection, srk, kind, SecretBytes(), tag));
    const auto value = [&]() -> Result<std::uint64_t> {
        VTPM_CHECK(increment(connection, srk, made.handle));
        VTPM_TRY(const Reading reading, read_value(connection, srk, made.handle));
        if (reading.locked)
            return fail(Errc::chip, "the chip has locked a counter that is new");
        return reading.value;
    }();
    if (!value) {
        (void)remove_index(connection, srk, made.index);
        return tl::make_unexpected(value.error());
    }
    return Defined{made.index, *value};
}

// By its Name, which the HMAC of what follows covers; what the chip says of it is not covered.
Result<LoadedHandle> find(EsysConnection& connection, CellIndex index,
                          const std::vector<Bytes>& names, Errc errc, std::string_view what) {
    VTPM_TRY(auto found, find_index(connection, index));
    if (!found)
        return fail(errc, std::string(what) + " was removed (its NV index is gone)");
    VTPM_TRY(const Bytes name, connection.name_in_hmacs(found->get()));
    if (std::ranges::find(names, name) == names.end()) {
        return fail(errc, std::string(what) +
                              " was replaced by something else, or was never given a value (its "
                              "NV index has other attributes)");
    }
    return std::move(*found);
}

}  // namespace

Result<LoadedHandle> find_counter(EsysConnection& connection, const Counter& counter, Errc errc,
                                  std::string_view what) {
    return find(connection, counter.index, {policy::name_of(counter)}, errc, what);
}

Result<LoadedHandle> find_latch(EsysConnection& connection, const Latch& latch, Errc errc,
                                std::string_view what) {
    return find(connection, latch.index, {policy::name_of(latch), policy::name_when_closed(latch)},
                errc, what);
}

Result<Counter> define_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                  const CellTag& tag) {
    VTPM_TRY(const Defined made, define(connection, srk, NvKind::counter, tag));
    return Counter{made.index, tag};
}

Result<Latch> define_nv_latch(EsysConnection& connection, const LoadedHandle& srk,
                              const CellTag& tag) {
    VTPM_TRY(const Defined made, define(connection, srk, NvKind::latch, tag));
    return Latch{made.index, tag, made.value};
}

Result<std::uint64_t> read_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                      const Counter& counter) {
    VTPM_TRY(const LoadedHandle index,
             find_counter(connection, counter, Errc::wrong_cell, counter_words));
    VTPM_TRY(const Reading reading, read_value(connection, srk, index));
    if (reading.locked)
        return fail(Errc::wrong_cell, "the chip's revocation counter is locked, which it never is");
    return reading.value;
}

Result<std::uint64_t> increment_nv_counter(EsysConnection& connection, const LoadedHandle& srk,
                                           const Counter& counter) {
    {
        VTPM_TRY(const LoadedHandle index,
                 find_counter(connection, counter, Errc::wrong_cell, counter_words));
        VTPM_CHECK(increment(connection, srk, index));
    }
    return read_nv_counter(connection, srk, counter);
}

Result<void> close_nv_latch(EsysConnection& connection, const LoadedHandle& srk,
                            const Latch& latch) {
    VTPM_TRY(const LoadedHandle index,
             find_latch(connection, latch, Errc::wrong_cell, latch_words));
    return lock(connection, srk, index);
}

Result<bool> nv_latch_closed(EsysConnection& connection, const LoadedHandle& srk,
                             const Latch& latch) {
    VTPM_TRY(const LoadedHandle index,
             find_latch(connection, latch, Errc::wrong_cell, latch_words));
    VTPM_TRY(const Reading reading, read_value(connection, srk, index));
    if (reading.locked) {
        // A refusal is not authenticated; that this command succeeds is.
        VTPM_TRY(const Bytes name, connection.name_in_hmacs(index.get()));
        if (name != policy::name_when_closed(latch))
            return fail(Errc::chip, "the chip calls its boot latch locked and open at once");
        VTPM_CHECK(lock(connection, srk, index));
        return true;
    }
    if (reading.value != latch.value) {
        return fail(Errc::wrong_cell, std::string(latch_words) +
                                          " was replaced: its value is another than the one it "
                                          "was made with");
    }
    return false;
}

}  // namespace vtpm::chip
