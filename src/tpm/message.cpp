#include "vtpm/tpm/message.h"

#include <algorithm>
#include <array>

#include "command.h"

namespace vtpm::tpm {
namespace {

constexpr std::array<std::uint32_t, 9> slow_ordinals_1_2 = {
    0x0000000D,  // TPM_TakeOwnership: makes the SRK
    0x00000013,  // TPM_CMK_CreateKey
    0x0000001F,  // TPM_CreateWrapKey
    0x00000050,  // TPM_SelfTestFull
    0x00000052,  // TPM_CertifySelfTest
    0x00000053,  // TPM_ContinueSelfTest
    0x00000078,  // TPM_CreateEndorsementKeyPair
    0x00000079,  // TPM_MakeIdentity
    0x0000007F,  // TPM_CreateRevocableEK
};
constexpr std::array<std::uint32_t, 5> slow_ordinals_2_0 = {
    0x00000131,  // TPM2_CreatePrimary
    0x00000142,  // TPM2_IncrementalSelfTest
    0x00000143,  // TPM2_SelfTest
    0x00000153,  // TPM2_Create
    0x00000191,  // TPM2_CreateLoaded
};

constexpr std::array<std::uint32_t, 4> stateless_ordinals_1_2 = {
    0x00000014,  // TPM_Extend
    0x00000015,  // TPM_PCRRead
    0x00000046,  // TPM_GetRandom
    0x00000054,  // TPM_GetTestResult
};
constexpr std::array<std::uint32_t, 5> stateless_ordinals_2_0 = {
    0x0000017B,  // TPM2_GetRandom
    0x0000017C,  // TPM2_GetTestResult
    0x0000017D,  // TPM2_Hash
    0x0000017E,  // TPM2_PCR_Read
    0x00000182,  // TPM2_PCR_Extend
};

// TPM2_GetCapability of what is built in, and of the PCR banks (Part 2, 6.12): TPM_CAP_ALGS,
// _COMMANDS, _PCRS, _ECC_CURVES. Tools ask it before they read a PCR.
constexpr std::uint32_t get_capability_2_0 = 0x0000017A;
constexpr std::array<std::uint32_t, 4> stateless_capabilities_2_0 = {0, 2, 5, 8};

template <std::size_t N>
bool contains(const std::array<std::uint32_t, N>& list, std::uint32_t ordinal) {
    return std::find(list.begin(), list.end(), ordinal) != list.end();
}

}  // namespace

Result<Header> parse_header(ByteView message) {
    ByteReader reader(message);
    Header header{};
    VTPM_TRY(header.tag, reader.u16());
    VTPM_TRY(header.size, reader.u32());
    VTPM_TRY(header.code, reader.u32());
    return header;
}

std::uint32_t refusal_code(Version version, Refusal refusal) {
    const bool v1_2 = version == Version::v1_2;
    switch (refusal) {
        case Refusal::bad_size:
            return v1_2 ? 0x19U : 0x142U;  // BAD_PARAM_SIZE, COMMAND_SIZE
        case Refusal::bad_locality:
            return v1_2 ? 0x3DU : 0x107U;  // BAD_LOCALITY, LOCALITY
        case Refusal::not_committed:
            return v1_2 ? 0x1FU : 0x923U;  // IOERROR, NV_UNAVAILABLE
        case Refusal::failed:
            return v1_2 ? 0x1CU : 0x101U;  // FAILEDSELFTEST, FAILURE
        case Refusal::no_power:
            return v1_2 ? 0x09U : 0x101U;  // FAIL, FAILURE
        case Refusal::cancelled:
            return v1_2 ? 0x09U : 0x909U;  // FAIL, CANCELED
        case Refusal::denied_command:
            return v1_2 ? 0x08U : 0x143U;  // DISABLED_CMD, COMMAND_CODE
    }
    return v1_2 ? 0x09U : 0x101U;
}

std::size_t write_refusal(Version version, Refusal refusal, MutableByteView response) {
    const Bytes header = message(version == Version::v1_2 ? tag_rsp_command : st_no_sessions,
                                 refusal_code(version, refusal), {});
    std::copy(header.begin(), header.end(), response.begin());
    return header_size;
}

std::size_t write_success(MutableByteView response) {
    const Bytes header = message(st_no_sessions, 0, {});
    std::copy(header.begin(), header.end(), response.begin());
    return header_size;
}

bool may_take_long(Version version, std::uint32_t ordinal) {
    return version == Version::v1_2 ? contains(slow_ordinals_1_2, ordinal)
                                    : contains(slow_ordinals_2_0, ordinal);
}

bool shows_no_lasting_state(Version version, ByteView request) {
    const auto header = parse_header(request);
    if (!header)
        return false;
    if (version == Version::v1_2)
        return contains(stateless_ordinals_1_2, header->code);
    if (header->code != get_capability_2_0)
        return contains(stateless_ordinals_2_0, header->code);
    const auto capability = ByteReader(request.subspan(header_size)).u32();
    return header->tag == st_no_sessions && capability &&
           contains(stateless_capabilities_2_0, *capability);
}

Bytes startup_clear(Version version) {
    // TPM_Startup(TPM_ST_CLEAR = 1) and TPM2_Startup(TPM_SU_CLEAR = 0)
    if (version == Version::v1_2)
        return message(tag_rqu_command, 0x99, Bytes{0, 1});
    return message(st_no_sessions, 0x144, Bytes{0, 0});
}

Bytes shutdown_clear() {
    return message(st_no_sessions, 0x145, Bytes{0, 0});
}

Bytes get_test_result() {
    return message(st_no_sessions, 0x17c, {});
}

Bytes create_endorsement_key_pair(ByteView nonce20) {
    ByteWriter parameters;
    parameters.bytes(nonce20)
        .u32(1)     // TPM_ALG_RSA
        .u16(3)     // TPM_ES_RSAESOAEP_SHA1_MGF1
        .u16(1)     // TPM_SS_NONE
        .u32(12)    // size of TPM_RSA_KEY_PARMS
        .u32(2048)  // key length, bits
        .u32(2)     // primes
        .u32(0);    // default exponent
    return message(tag_rqu_command, 0x78, parameters.written());
}

}  // namespace vtpm::tpm
