#include "command_names.h"

#include <array>
#include <charconv>

#include "vtpm/base/bytes.h"

namespace vtpm::control {
namespace {

struct Name {
    std::uint32_t code;
    std::string_view name;
};

// clang-format off
// TPM Main Part 2 (level 2, revision 116), section 17
constexpr std::array<Name, 123> names_1_2 = {{
    {0x000a, "OIAP"},
    {0x000b, "OSAP"},
    {0x000c, "ChangeAuth"},
    {0x000d, "TakeOwnership"},
    {0x000e, "ChangeAuthAsymStart"},
    {0x000f, "ChangeAuthAsymFinish"},
    {0x0010, "ChangeAuthOwner"},
    {0x0011, "DSAP"},
    {0x0012, "CMK_CreateTicket"},
    {0x0013, "CMK_CreateKey"},
    {0x0014, "Extend"},
    {0x0015, "PCRRead"},
    {0x0016, "Quote"},
    {0x0017, "Seal"},
    {0x0018, "Unseal"},
    {0x0019, "DirWriteAuth"},
    {0x001a, "DirRead"},
    {0x001b, "CMK_CreateBlob"},
    {0x001c, "CMK_SetRestrictions"},
    {0x001d, "CMK_ApproveMA"},
    {0x001e, "UnBind"},
    {0x001f, "CreateWrapKey"},
    {0x0020, "LoadKey"},
    {0x0021, "GetPubKey"},
    {0x0022, "EvictKey"},
    {0x0023, "KeyControlOwner"},
    {0x0024, "CMK_ConvertMigration"},
    {0x0025, "MigrateKey"},
    {0x0028, "CreateMigrationBlob"},
    {0x0029, "DAA_Join"},
    {0x002a, "ConvertMigrationBlob"},
    {0x002b, "AuthorizeMigrationKey"},
    {0x002c, "CreateMaintenanceArchive"},
    {0x002d, "LoadMaintenanceArchive"},
    {0x002e, "KillMaintenanceFeature"},
    {0x002f, "LoadManuMaintPub"},
    {0x0030, "ReadManuMaintPub"},
    {0x0031, "DAA_Sign"},
    {0x0032, "CertifyKey"},
    {0x0033, "CertifyKey2"},
    {0x003c, "Sign"},
    {0x003d, "Sealx"},
    {0x003e, "Quote2"},
    {0x003f, "SetCapability"},
    {0x0040, "ResetLockValue"},
    {0x0041, "LoadKey2"},
    {0x0046, "GetRandom"},
    {0x0047, "StirRandom"},
    {0x0050, "SelfTestFull"},
    {0x0052, "CertifySelfTest"},
    {0x0053, "ContinueSelfTest"},
    {0x0054, "GetTestResult"},
    {0x005a, "Reset"},
    {0x005b, "OwnerClear"},
    {0x005c, "DisableOwnerClear"},
    {0x005d, "ForceClear"},
    {0x005e, "DisableForceClear"},
    {0x0064, "GetCapabilitySigned"},
    {0x0065, "GetCapability"},
    {0x0066, "GetCapabilityOwner"},
    {0x006e, "OwnerSetDisable"},
    {0x006f, "PhysicalEnable"},
    {0x0070, "PhysicalDisable"},
    {0x0071, "SetOwnerInstall"},
    {0x0072, "PhysicalSetDeactivated"},
    {0x0073, "SetTempDeactivated"},
    {0x0074, "SetOperatorAuth"},
    {0x0075, "SetOwnerPointer"},
    {0x0078, "CreateEndorsementKeyPair"},
    {0x0079, "MakeIdentity"},
    {0x007a, "ActivateIdentity"},
    {0x007c, "ReadPubek"},
    {0x007d, "OwnerReadPubek"},
    {0x007e, "DisablePubekRead"},
    {0x007f, "CreateRevocableEK"},
    {0x0080, "RevokeTrust"},
    {0x0081, "OwnerReadInternalPub"},
    {0x0082, "GetAuditEvent"},
    {0x0083, "GetAuditEventSigned"},
    {0x0085, "GetAuditDigest"},
    {0x0086, "GetAuditDigestSigned"},
    {0x008c, "GetOrdinalAuditStatus"},
    {0x008d, "SetOrdinalAuditStatus"},
    {0x0096, "Terminate_Handle"},
    {0x0097, "Init"},
    {0x0098, "SaveState"},
    {0x0099, "Startup"},
    {0x009a, "SetRedirection"},
    {0x00a0, "SHA1Start"},
    {0x00a1, "SHA1Update"},
    {0x00a2, "SHA1Complete"},
    {0x00a3, "SHA1CompleteExtend"},
    {0x00aa, "FieldUpgrade"},
    {0x00b4, "SaveKeyContext"},
    {0x00b5, "LoadKeyContext"},
    {0x00b6, "SaveAuthContext"},
    {0x00b7, "LoadAuthContext"},
    {0x00b8, "SaveContext"},
    {0x00b9, "LoadContext"},
    {0x00ba, "FlushSpecific"},
    {0x00c8, "PCR_Reset"},
    {0x00cc, "NV_DefineSpace"},
    {0x00cd, "NV_WriteValue"},
    {0x00ce, "NV_WriteValueAuth"},
    {0x00cf, "NV_ReadValue"},
    {0x00d0, "NV_ReadValueAuth"},
    {0x00d1, "Delegate_UpdateVerification"},
    {0x00d2, "Delegate_Manage"},
    {0x00d4, "Delegate_CreateKeyDelegation"},
    {0x00d5, "Delegate_CreateOwnerDelegation"},
    {0x00d6, "Delegate_VerifyDelegation"},
    {0x00d8, "Delegate_LoadOwnerDelegation"},
    {0x00db, "Delegate_ReadTable"},
    {0x00dc, "CreateCounter"},
    {0x00dd, "IncrementCounter"},
    {0x00de, "ReadCounter"},
    {0x00df, "ReleaseCounter"},
    {0x00e0, "ReleaseCounterOwner"},
    {0x00e6, "EstablishTransport"},
    {0x00e7, "ExecuteTransport"},
    {0x00e8, "ReleaseTransportSigned"},
    {0x00f1, "GetTicks"},
    {0x00f2, "TickStampBlob"},
}};

// TPM Library Part 2, section 6.5.2
constexpr std::array<Name, 117> names_2_0 = {{
    {0x0011f, "NV_UndefineSpaceSpecial"},
    {0x00120, "EvictControl"},
    {0x00121, "HierarchyControl"},
    {0x00122, "NV_UndefineSpace"},
    {0x00124, "ChangeEPS"},
    {0x00125, "ChangePPS"},
    {0x00126, "Clear"},
    {0x00127, "ClearControl"},
    {0x00128, "ClockSet"},
    {0x00129, "HierarchyChangeAuth"},
    {0x0012a, "NV_DefineSpace"},
    {0x0012b, "PCR_Allocate"},
    {0x0012c, "PCR_SetAuthPolicy"},
    {0x0012d, "PP_Commands"},
    {0x0012e, "SetPrimaryPolicy"},
    {0x0012f, "FieldUpgradeStart"},
    {0x00130, "ClockRateAdjust"},
    {0x00131, "CreatePrimary"},
    {0x00132, "NV_GlobalWriteLock"},
    {0x00133, "GetCommandAuditDigest"},
    {0x00134, "NV_Increment"},
    {0x00135, "NV_SetBits"},
    {0x00136, "NV_Extend"},
    {0x00137, "NV_Write"},
    {0x00138, "NV_WriteLock"},
    {0x00139, "DictionaryAttackLockReset"},
    {0x0013a, "DictionaryAttackParameters"},
    {0x0013b, "NV_ChangeAuth"},
    {0x0013c, "PCR_Event"},
    {0x0013d, "PCR_Reset"},
    {0x0013e, "SequenceComplete"},
    {0x0013f, "SetAlgorithmSet"},
    {0x00140, "SetCommandCodeAuditStatus"},
    {0x00141, "FieldUpgradeData"},
    {0x00142, "IncrementalSelfTest"},
    {0x00143, "SelfTest"},
    {0x00144, "Startup"},
    {0x00145, "Shutdown"},
    {0x00146, "StirRandom"},
    {0x00147, "ActivateCredential"},
    {0x00148, "Certify"},
    {0x00149, "PolicyNV"},
    {0x0014a, "CertifyCreation"},
    {0x0014b, "Duplicate"},
    {0x0014c, "GetTime"},
    {0x0014d, "GetSessionAuditDigest"},
    {0x0014e, "NV_Read"},
    {0x0014f, "NV_ReadLock"},
    {0x00150, "ObjectChangeAuth"},
    {0x00151, "PolicySecret"},
    {0x00152, "Rewrap"},
    {0x00153, "Create"},
    {0x00154, "ECDH_ZGen"},
    {0x00155, "HMAC"},
    {0x00156, "Import"},
    {0x00157, "Load"},
    {0x00158, "Quote"},
    {0x00159, "RSA_Decrypt"},
    {0x0015b, "HMAC_Start"},
    {0x0015c, "SequenceUpdate"},
    {0x0015d, "Sign"},
    {0x0015e, "Unseal"},
    {0x00160, "PolicySigned"},
    {0x00161, "ContextLoad"},
    {0x00162, "ContextSave"},
    {0x00163, "ECDH_KeyGen"},
    {0x00164, "EncryptDecrypt"},
    {0x00165, "FlushContext"},
    {0x00167, "LoadExternal"},
    {0x00168, "MakeCredential"},
    {0x00169, "NV_ReadPublic"},
    {0x0016a, "PolicyAuthorize"},
    {0x0016b, "PolicyAuthValue"},
    {0x0016c, "PolicyCommandCode"},
    {0x0016d, "PolicyCounterTimer"},
    {0x0016e, "PolicyCpHash"},
    {0x0016f, "PolicyLocality"},
    {0x00170, "PolicyNameHash"},
    {0x00171, "PolicyOR"},
    {0x00172, "PolicyTicket"},
    {0x00173, "ReadPublic"},
    {0x00174, "RSA_Encrypt"},
    {0x00176, "StartAuthSession"},
    {0x00177, "VerifySignature"},
    {0x00178, "ECC_Parameters"},
    {0x00179, "FirmwareRead"},
    {0x0017a, "GetCapability"},
    {0x0017b, "GetRandom"},
    {0x0017c, "GetTestResult"},
    {0x0017d, "Hash"},
    {0x0017e, "PCR_Read"},
    {0x0017f, "PolicyPCR"},
    {0x00180, "PolicyRestart"},
    {0x00181, "ReadClock"},
    {0x00182, "PCR_Extend"},
    {0x00183, "PCR_SetAuthValue"},
    {0x00184, "NV_Certify"},
    {0x00185, "EventSequenceComplete"},
    {0x00186, "HashSequenceStart"},
    {0x00187, "PolicyPhysicalPresence"},
    {0x00188, "PolicyDuplicationSelect"},
    {0x00189, "PolicyGetDigest"},
    {0x0018a, "TestParms"},
    {0x0018b, "Commit"},
    {0x0018c, "PolicyPassword"},
    {0x0018d, "ZGen_2Phase"},
    {0x0018e, "EC_Ephemeral"},
    {0x0018f, "PolicyNvWritten"},
    {0x00190, "PolicyTemplate"},
    {0x00191, "CreateLoaded"},
    {0x00192, "PolicyAuthorizeNV"},
    {0x00193, "EncryptDecrypt2"},
    {0x00194, "AC_GetCapability"},
    {0x00195, "AC_Send"},
    {0x00196, "Policy_AC_SendSelect"},
    {0x00197, "CertifyX509"},
    {0x00198, "ACT_SetTimeout"},
}};
// clang-format on

char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

std::span<const Name> names(tpm::Version version) {
    return version == tpm::Version::v1_2 ? std::span<const Name>(names_1_2)
                                         : std::span<const Name>(names_2_0);
}

std::string_view prefix(tpm::Version version) {
    return version == tpm::Version::v1_2 ? "TPM_" : "TPM2_";
}

}  // namespace

Result<std::uint32_t> command_code(tpm::Version version, std::string_view text) {
    if (text.starts_with("0x") && text.size() <= 10) {
        std::uint32_t code = 0;
        const auto [end, error] =
            std::from_chars(text.data() + 2, text.data() + text.size(), code, 16);
        if (error == std::errc() && end == text.data() + text.size())
            return code;
    }
    std::string_view name = text;
    if (const auto head = prefix(version); same(name.substr(0, head.size()), head))
        name.remove_prefix(head.size());
    for (const Name& known : names(version)) {
        if (same(known.name, name))
            return known.code;
    }
    return fail(Errc::invalid_argument, "TPM " + std::string(tpm::to_string(version)) +
                                            " has no command of this name: " + std::string(text));
}

std::string command_name(tpm::Version version, std::uint32_t code) {
    for (const Name& known : names(version)) {
        if (known.code == code)
            return std::string(prefix(version)) + std::string(known.name);
    }
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text = "0x";
    for (int shift = 28; shift >= 0; shift -= 4)
        text.push_back(digits[(code >> shift) & 0xf]);
    return text;
}

}  // namespace vtpm::control
