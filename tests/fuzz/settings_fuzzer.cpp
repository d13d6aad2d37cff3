// vtpmmgrd's settings file (TOML): text with a dictionary of what may be in it.
#include "input.h"
#include "settings.h"

using namespace vtpm;
using fuzz::must;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(data, data + size);
    const auto settings = manager::parse_settings(text);
    if (!settings) {
        must(!settings.error().context.empty(), "an error without a reason");
        return 0;
    }
    must(!settings->tcti.empty() && !settings->state_dir.empty() && !settings->socket.empty(),
         "an empty setting");
    must(settings->auto_create_tpm == tpm::Version::v1_2 ||
             settings->auto_create_tpm == tpm::Version::v2_0,
         "no version of a TPM");
    must(text.find("tcti") != std::string::npos || text.find('"') != std::string::npos ||
             text.find('\'') != std::string::npos || settings->tcti == manager::Settings().tcti,
         "a chip out of nowhere");
    return 0;
}
