#include "power_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <sstream>

#include "vtpm/base/fd.h"

namespace vtpm::doorman {
namespace {

constexpr std::size_t size_limit = 256;
// Of all that a vtpmd leaves to the next one: this record, and the descriptors in systemd's store.
constexpr std::string_view version = "v1";

}  // namespace

bool PowerRecord::exists(const Uuid& instance) const {
    const auto content = read_file(path_.c_str(), size_limit);
    if (!content)
        return content.error().code != Errc::not_found;
    std::istringstream text(std::string(content->begin(), content->end()));
    std::string uuid;
    text >> uuid;
    return !Uuid::parse(uuid) || uuid == instance.to_string();
}

// UUID v1 TPM ENGINE RING-REF EVENT-CHANNEL AS SUSPENDED LIFE LABEL .
Result<void> PowerRecord::write(const Powered& powered) const {
    std::ostringstream text;
    text << powered.instance.to_string() << ' ' << version << ' '
         << static_cast<unsigned>(powered.tpm) << ' ' << powered.engine << ' ' << powered.ring_ref
         << ' ' << powered.event_channel << ' ' << static_cast<unsigned>(powered.as) << ' '
         << powered.suspended << ' ' << powered.life << ' ' << powered.label << " .\n";
    const std::string next = path_ + ".next";
    const Fd file(
        ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
        return fail_errno(next, errno);
    VTPM_CHECK(write_all(file.get(), as_bytes(text.str())));
    if (::rename(next.c_str(), path_.c_str()) != 0)
        return fail_errno(path_, errno);
    return {};
}

Result<Powered> PowerRecord::read() const {
    VTPM_TRY(const auto content, read_file(path_.c_str(), size_limit));
    std::istringstream text(std::string(content.begin(), content.end()));
    std::string uuid;
    std::string its_version;
    Powered there;
    unsigned tpm = 0;
    unsigned as = 0;
    char end = 0;
    if (text >> uuid >> its_version && its_version != version) {
        return fail(Errc::unsupported, NextAction::refuse,
                    path_ + " was written by another version of vtpmd (it is " +
                        its_version.substr(0, 8) + ", this vtpmd knows " + std::string(version) +
                        ")");
    }
    const auto instance = Uuid::parse(uuid);
    if (!(text >> tpm >> there.engine >> there.ring_ref >> there.event_channel >> as >>
          there.suspended >> there.life >> there.label >> end) ||
        end != '.' || !instance || as > static_cast<unsigned>(PoweredAs::failed)) {
        return fail(Errc::corrupt, path_ + " cannot be read");
    }
    VTPM_TRY(there.tpm, tpm::version_from_number(tpm));
    there.instance = *instance;
    there.as = static_cast<PoweredAs>(as);
    return there;
}

void PowerRecord::remove() const {
    ::unlink((path_ + ".next").c_str());
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
