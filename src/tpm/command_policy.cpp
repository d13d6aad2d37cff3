#include "vtpm/tpm/command_policy.h"

#include <algorithm>
#include <array>

namespace vtpm::tpm {
namespace {

constexpr std::uint32_t vendor_bit = 0x20000000;
constexpr std::uint32_t execute_transport = 0xE7;

constexpr std::array<std::uint32_t, 7> maintenance_1_2 = {
    0x2C,  // TPM_CreateMaintenanceArchive
    0x2D,  // TPM_LoadMaintenanceArchive
    0x2E,  // TPM_KillMaintenanceFeature
    0x2F,  // TPM_LoadManuMaintPub
    0x30,  // TPM_ReadManuMaintPub
    0x97,  // TPM_Init: a signal of the platform, no command of software's
    0xAA,  // TPM_FieldUpgrade
};
constexpr std::array<std::uint32_t, 3> maintenance_2_0 = {
    0x12F,  // TPM2_FieldUpgradeStart
    0x141,  // TPM2_FieldUpgradeData
    0x179,  // TPM2_FirmwareRead
};

bool is_maintenance(Version version, std::uint32_t code) {
    const auto in = [&](const auto& list) {
        return std::find(list.begin(), list.end(), code) != list.end();
    };
    return version == Version::v1_2 ? in(maintenance_1_2) : in(maintenance_2_0);
}

bool denies(const CommandPolicy& policy, Version version, std::uint32_t code) {
    return (!policy.vendor && (code & vendor_bit) != 0) ||
           (!policy.maintenance && is_maintenance(version, code)) ||
           std::find(policy.denied.begin(), policy.denied.end(), code) != policy.denied.end();
}

// The command inside: its size, then the whole of it.
std::optional<std::uint32_t> carried_code(ByteView transport) {
    if (transport.size() < header_size + sizeof(std::uint32_t))
        return std::nullopt;
    const auto inner = parse_header(transport.subspan(header_size + sizeof(std::uint32_t)));
    return inner ? std::optional(inner->code) : std::nullopt;
}

}  // namespace

std::optional<Refusal> CommandPolicy::objection(Version version, ByteView command,
                                                std::uint8_t locality) const {
    if (locality >= 8 || ((localities & possible_localities) >> locality & 1U) == 0)
        return Refusal::bad_locality;
    const auto header = parse_header(command);
    if (!header)
        return Refusal::bad_size;
    if (denies(*this, version, header->code))
        return Refusal::denied_command;
    if (version != Version::v1_2 || header->code != execute_transport)
        return std::nullopt;
    // One without a command inside is the TPM's to refuse.
    if (const auto code = carried_code(command); code && denies(*this, version, *code))
        return Refusal::denied_command;
    return std::nullopt;
}

}  // namespace vtpm::tpm
