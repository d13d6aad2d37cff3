// EventLog: what this host's firmware and boot loaders say they have measured, in the order in
// which they did. With some of it replaced it says what the PCRs will be on another boot.
//
// TCG PC Client Platform Firmware Profile, clause 10 (event logging): a first event in the old
// format that holds the algorithms ("Spec ID Event03"), then TCG_PCR_EVENT2, little-endian. Only
// the SHA-256 bank is looked at. The file is not trusted: all sizes are checked, and what it says
// counts only if it replays to the chip's PCRs. A value; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vtpm/base/bytes.h"

namespace vtpm::control {

using PcrDigest = std::array<std::uint8_t, 32>;  // SHA-256
using PcrValues = std::map<std::uint8_t, PcrDigest>;

inline constexpr std::uint8_t max_pcr = 23;

class EventLog {
  public:
    static constexpr std::size_t max_size = 4UL * 1024 * 1024;
    static constexpr const char* usual_path = "/sys/kernel/security/tpm0/binary_bios_measurements";

    // Errc::malformed: not such a log, or it ends too early; unsupported: without SHA-256;
    // too_large.
    static Result<EventLog> parse(ByteView bytes);

    // What these PCRs hold after all events.
    PcrValues replay(const std::vector<std::uint8_t>& numbers) const;

    // The PCRs that this digest was extended into.
    std::set<std::uint8_t> places(const PcrDigest& digest) const;

    // Every pair's first digest gives way to the second, all at once and wherever it was extended.
    EventLog with(const std::map<PcrDigest, PcrDigest>& replacements) const;

    std::size_t size() const { return measured_.size(); }

  private:
    struct Measured {
        std::uint8_t pcr;
        PcrDigest digest;
    };

    std::vector<Measured> measured_;
    std::uint8_t startup_locality_ = 0;  // PCR 0 begins with it
};

}  // namespace vtpm::control
