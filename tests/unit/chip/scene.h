// What the tests of EsysChip share: opened and pinned chips, and tpm2-tools as a second opinion.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "fakes/chip/memory_scan.h"
#include "fakes/chip/swtpm.h"
#include "vtpm/chip/esys_chip.h"

namespace vtpm::chip_tests {

inline SecretBytes secret_of(std::string_view text) {
    return SecretBytes::copy_of(as_bytes(text));
}

constexpr std::string_view known = "thirty-two bytes, not so secret.";

template <typename T>
bool fine(const Result<T>& result) {
    if (!result)
        UNSCOPED_INFO(to_string(result.error().code) << ": " << result.error().context);
    return result.has_value();
}

inline std::unique_ptr<chip::EsysChip> opened(const std::string& tcti) {
    auto connected = vtpm::chip::EsysChip::open(tcti);
    if (!connected)
        FAIL(connected.error().context);
    return std::move(*connected);
}

inline std::unique_ptr<chip::EsysChip> pinned(const std::string& tcti) {
    auto chip = opened(tcti);
    const auto identity = chip->identify();
    if (!identity)
        FAIL(identity.error().context);
    const auto expected = chip->expect(*identity);
    if (!expected)
        FAIL(expected.error().context);
    return chip;
}

inline std::uint32_t command_code(const Bytes& command) {
    ByteReader reader(command);
    (void)reader.bytes(6);
    return reader.u32().value_or(0);
}

// A tpm2-tools program on the chip; its output.
inline std::string tool(const fakes::Swtpm& chip, const std::string& words) {
    const std::string line =
        "TPM2TOOLS_TCTI=" + chip.tcti() + " TSS2_LOG=all+NONE " + words + " 2>/dev/null";
    std::string out;
    FILE* const pipe = ::popen(line.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::array<char, 256> part{};
    while (std::fgets(part.data(), part.size(), pipe) != nullptr)
        out += part.data();
    INFO(line);
    REQUIRE(::pclose(pipe) == 0);
    return out;
}

inline void write_file(const std::string& path, const Bytes& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

// Our storage root key, made by tpm2-tools from the published template; a context file.
inline std::string srk_by_tools(const fakes::Swtpm& chip, const std::filesystem::path& directory) {
    const std::string unique = (directory / "unique").string();
    const std::string context = (directory / "srk.ctx").string();
    Bytes zeros(260);  // the tool wants x and y as C structs: a size in host order, 128 bytes
    zeros[0] = zeros[130] = 32;
    write_file(unique, zeros);
    tool(chip,
         "tpm2_createprimary -C o -G ecc256:aes128cfb -g sha256 -a 'fixedtpm|fixedparent|"
         "sensitivedataorigin|userwithauth|noda|restricted|decrypt' -u " +
             unique + " -c " + context);
    tool(chip, "tpm2_flushcontext -t");
    return context;
}

}  // namespace vtpm::chip_tests
