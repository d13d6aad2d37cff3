#include "prediction.h"

#include <algorithm>

#include "vtpm/base/fd.h"

namespace vtpm::control {
namespace {

std::vector<std::uint8_t> numbers_of(const PcrValues& pcrs) {
    std::vector<std::uint8_t> numbers;
    for (const auto& [number, value] : pcrs)
        numbers.push_back(number);
    return numbers;
}

template <typename Numbers>
std::string pcr_names(const Numbers& numbers) {
    std::string text;
    for (const unsigned number : numbers)
        text += (text.empty() ? "PCR " : ", ") + std::to_string(number);
    return text;
}

}  // namespace

Result<EventLog> read_event_log(const std::string& path) {
    const auto bytes = read_file(path.c_str(), EventLog::max_size);
    if (!bytes && bytes.error().code == Errc::not_found) {
        return fail(Errc::unsupported,
                    "there is no event log at " + path +
                        " (under Xen, dom0 often has none), so that nothing can be predicted: give "
                        "the next boot's values yourself, with --pcr N=HEX, or approve it once it "
                        "runs, with: vtpmctl approve this-boot");
    }
    if (!bytes)
        return tl::make_unexpected(bytes.error());
    return EventLog::parse(*bytes);
}

Result<PcrValues> predict(const EventLog& log, const PcrValues& now,
                          const std::map<PcrDigest, PcrDigest>& replacements) {
    const auto numbers = numbers_of(now);
    std::vector<std::uint8_t> wrong;
    for (const auto& [number, value] : log.replay(numbers)) {
        if (now.at(number) != value)
            wrong.push_back(number);
    }
    if (!wrong.empty()) {
        return fail(Errc::invalid_argument,
                    "the event log does not tell how the chip came to this boot's values of " +
                        pcr_names(wrong) +
                        ", so that it cannot tell the next boot's: use --pcr N=HEX");
    }
    for (const auto& [old, fresh] : replacements) {
        const auto places = log.places(old);
        if (places.empty())
            return fail(Errc::invalid_argument, to_hex(old) + " was not measured on this boot");
        if (std::none_of(places.begin(), places.end(),
                         [&](std::uint8_t number) { return now.contains(number); })) {
            return fail(Errc::invalid_argument,
                        to_hex(old) + " was measured into " + pcr_names(places) +
                            " only, which the group's approvals are not about: leave it out");
        }
    }
    return log.with(replacements).replay(numbers);
}

}  // namespace vtpm::control
