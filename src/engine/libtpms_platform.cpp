#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_tis.h>
#include <libtpms/tpm_types.h>

#include <cstdlib>

#include "callbacks.h"
#include "vtpm/engine/libtpms_engine.h"

namespace vtpm::engine {
namespace {

// What measures a dynamic launch is hardware, and no software can claim its locality.
constexpr std::uint8_t hardware_locality = 4;

}  // namespace

std::uint32_t LibtpmsEngine::hash_start() {
    set_locality(hardware_locality);
    return running_ ? TPM_IO_Hash_Start() : TPM_FAIL;
}

std::uint32_t LibtpmsEngine::hash_data(ByteView data) {
    if (!running_)
        return TPM_FAIL;
    return TPM_IO_Hash_Data(data.data(), static_cast<std::uint32_t>(data.size()));
}

std::uint32_t LibtpmsEngine::hash_end() {
    return running_ ? TPM_IO_Hash_End() : TPM_FAIL;
}

std::uint32_t LibtpmsEngine::established(bool& value) {
    TPM_BOOL seen = 0;
    const auto result = running_ ? TPM_IO_TpmEstablished_Get(&seen) : TPM_FAIL;
    value = seen != 0;
    return result;
}

std::uint32_t LibtpmsEngine::reset_established(std::uint8_t locality) {
    set_locality(locality);
    return running_ ? TPM_IO_TpmEstablished_Reset() : TPM_FAIL;
}

std::string LibtpmsEngine::info(tpm::Version version, std::uint32_t flags) {
    // Refused while one runs; then it is that one's.
    (void)TPMLIB_ChooseTPMVersion(version == tpm::Version::v1_2 ? TPMLIB_TPM_VERSION_1_2
                                                                : TPMLIB_TPM_VERSION_2);
    char* const json = TPMLIB_GetInfo(static_cast<TPMLIB_InfoFlags>(flags));
    std::string text = json == nullptr ? "" : json;
    std::free(json);
    return text;
}

}  // namespace vtpm::engine
