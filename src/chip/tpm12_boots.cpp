// The public area of what a TPM 1.2 has sealed: the boots that may unseal it; and how the identity
// of such a chip is told from that of a TPM 2.0.
#include "tpm12_boots.h"

#include <algorithm>

#include "tpm12_structures.h"

namespace vtpm::chip {
namespace {

constexpr std::string_view boots_magic = "xen-vtpm 1.2 boots 1";
constexpr std::size_t pcr_count = Chip::max_pcr + 1U;

Result<PcrValues> read_boot(ByteReader& reader) {
    VTPM_TRY(const auto count, reader.u8());
    PcrValues boot;
    for (unsigned i = 0; i < count; ++i) {
        VTPM_TRY(const auto number, reader.u8());
        VTPM_TRY(const ByteView value, reader.bytes(tpm12::sha1_size));
        if (number > Chip::max_pcr || !boot.emplace(number, tpm12::padded(value)).second)
            return fail(Errc::corrupt, "a boot names a PCR that is not there, or one twice");
    }
    if (boot.empty())
        return fail(Errc::corrupt, "a boot without PCRs");
    return boot;
}

bool is_sha1(const Digest& value) {
    return std::all_of(value.begin() + tpm12::sha1_size, value.end(),
                       [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

bool is_tpm12(const ChipIdentity& identity) {
    const ByteView magic = as_bytes(tpm12::identity_magic);
    return identity.srk_public.size() > magic.size() &&
           std::equal(magic.begin(), magic.end(), identity.srk_public.begin());
}

Result<Bytes> list_of_boots(const std::vector<PcrValues>& boots) {
    if (boots.empty() || boots.size() > max_boots)
        return fail(Errc::invalid_argument,
                    "a TPM 1.2 seals to 1 to " + std::to_string(max_boots) + " boots");
    ByteWriter list;
    list.bytes(as_bytes(boots_magic)).u8(static_cast<std::uint8_t>(boots.size()));
    for (const auto& boot : boots) {
        if (boot.empty() || boot.size() > pcr_count || boot.rbegin()->first > Chip::max_pcr)
            return fail(Errc::invalid_argument, "not the PCRs of a boot");
        list.u8(static_cast<std::uint8_t>(boot.size()));
        for (const auto& [number, value] : boot) {
            if (!is_sha1(value))
                return fail(Errc::invalid_argument, "a PCR of a TPM 1.2 has 20 bytes (SHA-1)");
            list.u8(number).bytes(ByteView(value).first(tpm12::sha1_size));
        }
    }
    return list.take();
}

Result<std::vector<PcrValues>> boots_of(const SealedObject& sealed) {
    ByteReader reader(sealed.public_area);
    const ByteView magic = as_bytes(boots_magic);
    VTPM_TRY(const ByteView begin, reader.bytes(magic.size()));
    VTPM_TRY(const auto count, reader.u8());
    if (!std::equal(magic.begin(), magic.end(), begin.begin()) || count == 0 || count > max_boots)
        return fail(Errc::corrupt, "not a list of boots");
    std::vector<PcrValues> boots;
    for (unsigned i = 0; i < count; ++i) {
        VTPM_TRY(PcrValues boot, read_boot(reader));
        boots.push_back(std::move(boot));
    }
    if (reader.left() != 0)
        return fail(Errc::corrupt, "more than a list of boots");
    return boots;
}

}  // namespace vtpm::chip
