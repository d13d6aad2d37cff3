#include "event_log.h"

#include <openssl/sha.h>

#include <algorithm>
#include <optional>
#include <string_view>

namespace vtpm::control {
namespace {

using namespace std::string_view_literals;

constexpr std::uint32_t ev_no_action = 3;
constexpr std::uint16_t sha256_algorithm = 0x000b;
constexpr std::size_t sha1_size = 20;
constexpr std::uint32_t max_algorithms = 16;
constexpr std::size_t max_digest = 64;
constexpr auto spec_id = "Spec ID Event03\0"sv;
constexpr auto startup_locality = "StartupLocality\0"sv;
// D-RTM PCRs hold ones until a dynamic launch. TCG PC Client Platform TPM Profile, table of PCRs.
constexpr std::uint8_t first_dynamic = 17;
constexpr std::uint8_t last_dynamic = 22;

// The log is little-endian; ByteReader reads TCG's other structures.
class LogReader {
  public:
    explicit LogReader(ByteView bytes) : reader_(bytes) {}

    Result<std::uint8_t> u8() { return reader_.u8(); }
    Result<std::uint16_t> u16() {
        VTPM_TRY(const auto value, reader_.u16());
        return __builtin_bswap16(value);
    }
    Result<std::uint32_t> u32() {
        VTPM_TRY(const auto value, reader_.u32());
        return __builtin_bswap32(value);
    }
    Result<ByteView> bytes(std::size_t size) { return reader_.bytes(size); }
    std::size_t left() const { return reader_.left(); }

  private:
    ByteReader reader_;
};

using Algorithms = std::map<std::uint16_t, std::size_t>;  // digest sizes

tl::unexpected<Error> malformed_log(const std::string& what) {
    return fail(Errc::malformed, "the event log " + what);
}

bool begins_with(ByteView bytes, std::string_view text) {
    return bytes.size() >= text.size() &&
           std::equal(text.begin(), text.end(), bytes.begin(),
                      [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

// TCG_EfiSpecIDEvent, clause 10.4.5.1.
Result<Algorithms> parse_spec_id(ByteView event) {
    if (!begins_with(event, spec_id)) {
        return fail(Errc::unsupported,
                    "the event log is not in the crypto-agile format of TPM 2.0 (Spec ID Event03)");
    }
    LogReader reader(event.subspan(spec_id.size()));
    VTPM_CHECK(reader.bytes(8));  // platform class, version, errata, size of UINTN
    VTPM_TRY(const auto count, reader.u32());
    if (count == 0 || count > max_algorithms)
        return malformed_log("says that it has " + std::to_string(count) + " algorithms");
    Algorithms algorithms;
    for (std::uint32_t i = 0; i < count; ++i) {
        VTPM_TRY(const auto algorithm, reader.u16());
        VTPM_TRY(const auto size, reader.u16());
        if (size == 0 || size > max_digest || !algorithms.emplace(algorithm, size).second)
            return malformed_log("has a list of algorithms that makes no sense");
    }
    VTPM_TRY(const auto vendor, reader.u8());
    VTPM_CHECK(reader.bytes(vendor));
    const auto sha256 = algorithms.find(sha256_algorithm);
    if (sha256 == algorithms.end())
        return fail(Errc::unsupported, "the event log has no SHA-256 digests");
    if (sha256->second != SHA256_DIGEST_LENGTH)
        return malformed_log("says that SHA-256 has another size than 32 bytes");
    return algorithms;
}

// TCG_PCClientPCREvent, clause 10.2.1: the one in the old format.
Result<Algorithms> parse_first(LogReader& reader) {
    VTPM_TRY(const auto pcr, reader.u32());
    VTPM_TRY(const auto type, reader.u32());
    VTPM_CHECK(reader.bytes(sha1_size));
    VTPM_TRY(const auto size, reader.u32());
    VTPM_TRY(const auto event, reader.bytes(size));
    if (pcr != 0 || type != ev_no_action)
        return malformed_log("does not begin with its specification's version");
    return parse_spec_id(event);
}

struct Event {
    std::uint32_t pcr = 0;
    std::uint32_t type = 0;
    std::optional<PcrDigest> digest;
    ByteView data;
};

// TCG_PCR_EVENT2, clause 10.2.2.
Result<Event> parse_event(LogReader& reader, const Algorithms& algorithms) {
    Event event;
    VTPM_TRY(event.pcr, reader.u32());
    VTPM_TRY(event.type, reader.u32());
    VTPM_TRY(const auto count, reader.u32());
    if (count > algorithms.size())
        return malformed_log("has an event of " + std::to_string(count) + " digests");
    std::set<std::uint16_t> seen;
    for (std::uint32_t i = 0; i < count; ++i) {
        VTPM_TRY(const auto number, reader.u16());
        const auto algorithm = algorithms.find(number);
        if (algorithm == algorithms.end() || !seen.insert(number).second)
            return malformed_log(
                "has a digest of an algorithm that it has not named, or one twice");
        VTPM_TRY(const auto digest, reader.bytes(algorithm->second));
        if (number == sha256_algorithm)
            std::copy(digest.begin(), digest.end(), event.digest.emplace().begin());
    }
    VTPM_TRY(const auto size, reader.u32());
    VTPM_TRY(event.data, reader.bytes(size));
    return event;
}

PcrDigest extended(const PcrDigest& value, const PcrDigest& digest) {
    std::array<std::uint8_t, 2 * SHA256_DIGEST_LENGTH> both{};
    std::copy(value.begin(), value.end(), both.begin());
    std::copy(digest.begin(), digest.end(), both.begin() + SHA256_DIGEST_LENGTH);
    PcrDigest out{};
    ::SHA256(both.data(), both.size(), out.data());
    return out;
}

}  // namespace

Result<EventLog> EventLog::parse(ByteView bytes) {
    if (bytes.size() > max_size)
        return fail(Errc::too_large, "the event log is larger than 4 MiB");
    const auto parsed = [&]() -> Result<EventLog> {
        LogReader reader(bytes);
        EventLog log;
        VTPM_TRY(const Algorithms algorithms, parse_first(reader));
        bool begun = false;  // PCR 0 has been extended, or its locality was told
        while (reader.left() > 0) {
            VTPM_TRY(const Event event, parse_event(reader, algorithms));
            if (event.type == ev_no_action) {
                if (event.pcr != 0 || !begins_with(event.data, startup_locality))
                    continue;
                if (begun || event.data.size() != startup_locality.size() + 1)
                    return malformed_log("tells the locality of the start in the wrong place");
                log.startup_locality_ = event.data.back();
                begun = true;
                continue;
            }
            if (event.pcr > max_pcr)
                return malformed_log("has an event of PCR " + std::to_string(event.pcr));
            if (!event.digest)
                return malformed_log("has an event without a SHA-256 digest");
            begun = begun || event.pcr == 0;
            log.measured_.push_back({static_cast<std::uint8_t>(event.pcr), *event.digest});
        }
        return log;
    }();
    if (!parsed && parsed.error().context == "ends too early")
        return malformed_log("ends too early");
    return parsed;
}

PcrValues EventLog::replay(const std::vector<std::uint8_t>& numbers) const {
    PcrValues pcrs;
    for (const std::uint8_t number : numbers) {
        auto& value = pcrs[number];
        value.fill(number >= first_dynamic && number <= last_dynamic ? 0xff : 0);
        if (number == 0)
            value.back() = startup_locality_;
    }
    for (const auto& [number, digest] : measured_) {
        if (const auto pcr = pcrs.find(number); pcr != pcrs.end())
            pcr->second = extended(pcr->second, digest);
    }
    return pcrs;
}

std::set<std::uint8_t> EventLog::places(const PcrDigest& digest) const {
    std::set<std::uint8_t> pcrs;
    for (const auto& event : measured_) {
        if (event.digest == digest)
            pcrs.insert(event.pcr);
    }
    return pcrs;
}

EventLog EventLog::with(const std::map<PcrDigest, PcrDigest>& replacements) const {
    EventLog log = *this;
    for (auto& event : log.measured_) {
        if (const auto found = replacements.find(event.digest); found != replacements.end())
            event.digest = found->second;
    }
    return log;
}

}  // namespace vtpm::control
