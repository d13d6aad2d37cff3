// What the tests of a TPM 1.2 begin with.
#pragma once

#include "fakes/chip/swtpm12.h"
#include "scene.h"
#include "vtpm/chip/tpm12_chip.h"

namespace vtpm::chip_tests {

inline constexpr std::uint32_t nv_define = 0xcc;
inline constexpr std::uint32_t nv_write = 0xce;
inline constexpr std::uint32_t nv_read = 0xd0;
inline constexpr std::uint32_t unseal_command = 0x18;

inline chip::CellTag tag_of(std::uint8_t fill) {
    chip::CellTag tag{};
    tag.fill(fill);
    return tag;
}

inline const SecretBytes auth = secret_of(known);  // 32 bytes
inline const chip::CellTag tag = tag_of(0x77);

// Released before the chip is asked by somebody else: swtpm serves one at a time.
inline std::unique_ptr<chip::Tpm12Chip> pinned12(const std::string& tcti,
                                                 std::string owner_file = {}) {
    auto chip = std::make_unique<chip::Tpm12Chip>(tcti, std::move(owner_file));
    const auto identity = chip->identify();
    if (!identity)
        FAIL(identity.error().context);
    REQUIRE(fine(chip->expect(*identity)));
    return chip;
}

inline chip::Binding this_boot(chip::Chip& chip,
                               const std::vector<std::uint8_t>& numbers = {4, 7}) {
    const auto pcrs = chip.read_pcrs(numbers);
    REQUIRE(fine(pcrs));
    chip::Binding binding;
    binding.boots = {*pcrs};
    return binding;
}

template <typename T>
Errc code_of(const Result<T>& result) {
    REQUIRE_FALSE(result.has_value());
    INFO(result.error().context);
    CHECK_FALSE(result.error().context.empty());
    return result.error().code;
}

}  // namespace vtpm::chip_tests
