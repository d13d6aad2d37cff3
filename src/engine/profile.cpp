#include "profile.h"

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_types.h>

#include <cstdint>

// Not in the header of libtpms 0.9, and not in that library, whose soname 0.10 has too: what is
// there is known when the program is loaded.
extern "C" [[gnu::weak]] TPM_RESULT TPMLIB_SetProfile(const char* profile);

namespace vtpm::engine {
namespace {

constexpr std::uint32_t permanent_magic = 0xAB364723;  // libtpms, PERSISTENT_ALL_MAGIC

std::string this_libtpms() {
    const std::uint32_t version = TPMLIB_GetVersion();
    return std::to_string(version >> 16U) + "." + std::to_string(version >> 8U & 0xffU) + "." +
           std::to_string(version & 0xffU);
}

std::string explain(ByteView permanent) {
    ByteReader reader(permanent);
    const auto format = reader.u16();
    const auto magic = reader.u32();
    const auto least = reader.u16();
    if (!format || !least || magic.value_or(0) != permanent_magic)
        return {};
    return "; its permanent state has format " + std::to_string(*format) +
           ", for a libtpms that knows " + std::to_string(*least) + ", and this is libtpms " +
           this_libtpms();
}

}  // namespace

Result<void> choose_oldest_profile() {
    if (TPMLIB_SetProfile == nullptr)
        return {};
    if (const auto set = TPMLIB_SetProfile(nullptr); set != TPM_SUCCESS)
        return fail(Errc::unsupported,
                    "choosing the profile of libtpms 0.9: libtpms error " + std::to_string(set));
    return {};
}

std::string explain_format(const std::vector<StateBlob>& blobs) {
    for (const auto& blob : blobs) {
        if (blob.kind == StateKind::permanent && blob.content)
            return explain(blob.content->view());
    }
    return {};
}

}  // namespace vtpm::engine
