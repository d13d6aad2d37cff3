#include "vtpm/chip/kernel_devices.h"

#include <string_view>
#include <system_error>
#include <vector>

#include "vtpm/base/fd.h"

namespace vtpm::chip {
namespace {

constexpr std::string_view device_prefix = "device:";

// "tpm0" of "device:/dev/tpm0" and of "device:/dev/tpmrm0"; empty: no device.
std::string name_of(const std::string& tcti) {
    if (!tcti.starts_with(device_prefix))
        return {};
    std::string name = std::filesystem::path(tcti.substr(device_prefix.size())).filename().string();
    if (name.starts_with("tpmrm"))
        name.erase(3, 2);
    return name;
}

// Those with hardware behind them: a /dev/vtpmx proxy's has no parent.
std::vector<std::string> hardware(const std::filesystem::path& devices) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(devices, error), end; !error && entry != end;
         entry.increment(error)) {
        std::error_code unknown;
        if (std::filesystem::exists(entry->path() / "device", unknown))
            names.push_back(entry->path().filename().string());
    }
    return names;
}

}  // namespace

// tpm2-tss asks a device something of its own before we can, and does not take the answer of a
// TPM 1.2 for one.
std::optional<Generation> generation_by_kernel(const std::string& tcti,
                                               const std::filesystem::path& devices) {
    const std::string name = name_of(tcti);
    if (name.empty())
        return std::nullopt;
    const auto text = read_file((devices / name / "tpm_version_major").c_str(), 4096);
    if (!text || text->empty() || (text->size() > 1 && (*text)[1] != '\n'))
        return std::nullopt;
    switch (text->front()) {
        case '1':
            return Generation::tpm_1_2;
        case '2':
            return Generation::tpm_2_0;
        default:
            return std::nullopt;
    }
}

std::string present_tcti(const std::string& tcti, const std::filesystem::path& devices) {
    const std::string name = name_of(tcti);
    std::error_code unknown;
    if (!name.starts_with("tpm") || std::filesystem::exists(devices / name, unknown) || unknown)
        return tcti;
    const auto there = hardware(devices);
    if (there.size() != 1 || !there.front().starts_with("tpm"))
        return tcti;
    const std::filesystem::path old(tcti.substr(device_prefix.size()));
    std::string present = there.front();
    if (old.filename().string().starts_with("tpmrm"))
        present.insert(3, "rm");
    return std::string(device_prefix) + (old.parent_path() / present).string();
}

}  // namespace vtpm::chip
