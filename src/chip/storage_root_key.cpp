#include "storage_root_key.h"

#include <algorithm>
#include <optional>

#include "chip_errors.h"
#include "marshal.h"

namespace vtpm::chip {
namespace {

TPM2B_PUBLIC srk_template() {
    TPM2B_PUBLIC out{};
    auto& area = out.publicArea;
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                            TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                            TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    auto& ecc = area.parameters.eccDetail;
    ecc.symmetric.algorithm = TPM2_ALG_AES;
    ecc.symmetric.keyBits.aes = 128;
    ecc.symmetric.mode.aes = TPM2_ALG_CFB;
    ecc.scheme.scheme = TPM2_ALG_NULL;
    ecc.curveID = TPM2_ECC_NIST_P256;
    ecc.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = 32;  // the template has zeros here, not nothing
    area.unique.ecc.y.size = 32;
    return out;
}

struct DerivedKey {
    LoadedHandle handle;
    Bytes public_area;
};

tl::unexpected<Error> owner_password() {
    return fail(Errc::permission, NextAction::ask_operator,
                "the chip's owner hierarchy has a password, so that the storage root key cannot be "
                "derived. Either take the password away (tpm2_changeauth -c owner -p PASSWORD), or "
                "make the key persistent at 0x81000001 with it");
}

Result<DerivedKey> derive(EsysConnection& connection) {
    const TPM2B_PUBLIC wanted = srk_template();
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_DATA outside_info{};
    const TPML_PCR_SELECTION creation_pcr{};
    ESYS_TR handle = ESYS_TR_NONE;
    EsysAnswer<TPM2B_PUBLIC> made;
    TSS2_RC refused = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_CreatePrimary", [&] {
        TPM2B_PUBLIC* answer = nullptr;
        refused = Esys_CreatePrimary(connection.esys(), ESYS_TR_RH_OWNER, ESYS_TR_PASSWORD,
                                     ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, &wanted, &outside_info,
                                     &creation_pcr, &handle, &answer, nullptr, nullptr, nullptr);
        made.reset(answer);
        return refused;
    });
    const TSS2_RC code = tpm_code(refused);
    if (code == TPM2_RC_BAD_AUTH || code == TPM2_RC_AUTH_FAIL)
        return owner_password();
    VTPM_CHECK(ran);
    LoadedHandle loaded(connection, handle, LoadedHandle::End::flush);
    VTPM_TRY(Bytes public_area, marshal(*made));
    made->publicArea.unique = wanted.publicArea.unique;
    if (!same(*made, wanted)) {
        return fail(Errc::malformed, NextAction::ask_operator,
                    "the chip made another key than the one it was asked for");
    }
    return DerivedKey{std::move(loaded), std::move(public_area)};
}

Result<std::uint32_t> property(EsysConnection& connection, TPM2_PT which) {
    EsysAnswer<TPMS_CAPABILITY_DATA> data;
    VTPM_CHECK(connection.run("TPM2_GetCapability", [&] {
        TPMS_CAPABILITY_DATA* answer = nullptr;
        const auto rc =
            Esys_GetCapability(connection.esys(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                               TPM2_CAP_TPM_PROPERTIES, which, 1, nullptr, &answer);
        data.reset(answer);
        return rc;
    }));
    const auto& list = data->data.tpmProperties;
    if (list.count == 0 || list.tpmProperty[0].property != which)
        return 0U;
    return list.tpmProperty[0].value;
}

std::string printable_id(std::uint32_t value) {
    std::string text;
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        const char c = static_cast<char>((value >> shift) & 0xffU);
        if (c > ' ' && c < 0x7f)
            text.push_back(c);
    }
    return text;
}

std::string dotted(std::uint32_t first, std::uint32_t second) {
    return std::to_string(first >> 16U) + "." + std::to_string(first & 0xffffU) + "." +
           std::to_string(second >> 16U) + "." + std::to_string(second & 0xffffU);
}

Result<void> describe(EsysConnection& connection, ChipIdentity& into) {
    VTPM_TRY(const auto manufacturer, property(connection, TPM2_PT_MANUFACTURER));
    VTPM_TRY(const auto first, property(connection, TPM2_PT_FIRMWARE_VERSION_1));
    VTPM_TRY(const auto second, property(connection, TPM2_PT_FIRMWARE_VERSION_2));
    into.manufacturer = printable_id(manufacturer);
    into.firmware = dotted(first, second);
    return {};
}

// A chip that was cleared has another storage root key, as another chip has. What it says of itself
// proves nothing, but helps whoever has to find out what has happened.
tl::unexpected<Error> another_chip(EsysConnection& connection, const ChipIdentity& pinned) {
    ChipIdentity now;
    const bool told = describe(connection, now).has_value();
    std::string why =
        "this is not the chip of the set-up any more: its storage root key is "
        "another one";
    if (!told) {
        why += ". It was cleared in the firmware, or exchanged";
    } else if (now.manufacturer != pinned.manufacturer) {
        why += ", and its maker is " + now.manufacturer + ", not " + pinned.manufacturer +
               ". It was exchanged for another chip";
    } else if (now.firmware != pinned.firmware) {
        why += ", and its firmware is " + now.firmware + ", not " + pinned.firmware +
               ". It was exchanged for another chip, or updated and cleared";
    } else {
        why +=
            ". Maker and firmware are those of then: it was cleared in the firmware, or "
            "exchanged for another chip of its kind; the chip does not tell which";
    }
    return fail(Errc::wrong_chip, why);
}

// What ESYS holds for a handle, serialized, ends with the public area that it will salt to. The
// Name alone does not do: ESYS takes it from the same answer and need not have compared the two.
Result<bool> is_exactly(EsysConnection& connection, ESYS_TR handle, const ChipIdentity& pinned) {
    VTPM_TRY(const Bytes name, connection.name_of(handle));
    if (name != pinned.srk_name)
        return false;
    VTPM_TRY(const Bytes all, connection.serialized(handle));
    const auto& expected = pinned.srk_public;
    return all.size() >= expected.size() &&
           std::equal(expected.rbegin(), expected.rend(), all.rbegin());
}

// Empty if there is no persistent object, or it is another one. That is nobody's fault.
Result<std::optional<LoadedHandle>> persistent(EsysConnection& connection,
                                               const ChipIdentity& pinned) {
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC refused = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_ReadPublic", [&] {
        refused = Esys_TR_FromTPMPublic(connection.esys(), persistent_srk, ESYS_TR_NONE,
                                        ESYS_TR_NONE, ESYS_TR_NONE, &handle);
        return refused;
    });
    if (tpm_code(refused) == TPM2_RC_HANDLE)
        return std::nullopt;
    VTPM_CHECK(ran);
    LoadedHandle loaded(connection, handle, LoadedHandle::End::close);
    VTPM_TRY(const bool same, is_exactly(connection, handle, pinned));
    if (!same)
        return std::nullopt;
    return loaded;
}

}  // namespace

Result<ChipIdentity> derive_identity(EsysConnection& connection) {
    ChipIdentity identity;
    {
        VTPM_TRY(DerivedKey key, derive(connection));
        VTPM_TRY(identity.srk_name, connection.name_of(key.handle.get()));
        identity.srk_public = std::move(key.public_area);
    }
    VTPM_CHECK(describe(connection, identity));
    return identity;
}

Result<LoadedHandle> load_srk(EsysConnection& connection, const ChipIdentity& pinned) {
    VTPM_TRY(auto found, persistent(connection, pinned));
    if (found)
        return std::move(*found);
    VTPM_TRY(DerivedKey key, derive(connection));
    VTPM_TRY(const bool same, is_exactly(connection, key.handle.get(), pinned));
    if (!same || key.public_area != pinned.srk_public)
        return another_chip(connection, pinned);
    return std::move(key.handle);
}

}  // namespace vtpm::chip
