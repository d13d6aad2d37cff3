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
// Of what follows it, and of the descriptors in systemd's store. What is before it is for all
// versions to read, also those that know no more: whatever runs, a TPM that was put by goes on.
constexpr std::string_view layout = "v1";

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

// UUID LABEL LIFE . v1 TPM ENGINE RING-REF EVENT-CHANNEL AS SUSPENDED .
Result<void> PowerRecord::write(const Powered& powered) const {
    std::ostringstream text;
    text << powered.instance.to_string() << ' ' << powered.label << ' ' << powered.life << " . "
         << layout << ' ' << static_cast<unsigned>(powered.tpm) << ' ' << powered.engine << ' '
         << powered.ring_ref << ' ' << powered.event_channel << ' '
         << static_cast<unsigned>(powered.as) << ' ' << powered.suspended << " .\n";
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
    const auto corrupt = fail(Errc::corrupt, path_ + " cannot be read");
    std::string uuid;
    Powered there;
    text >> uuid;
    const auto instance = Uuid::parse(uuid);
    if (!instance)
        return corrupt;
    there.instance = *instance;
    if (text.eof() || (text >> std::ws).eof())
        return there;  // 0.1.0, and not put by
    char end = 0;
    if (!(text >> there.label >> there.life >> end) || end != '.')
        return corrupt;
    std::string its_layout;
    if (!(text >> its_layout) || its_layout != layout)
        return there;
    unsigned tpm = 0;
    unsigned as = 0;
    end = 0;
    if (!(text >> tpm >> there.engine >> there.ring_ref >> there.event_channel >> as >>
          there.suspended >> end) ||
        end != '.' || as > static_cast<unsigned>(PoweredAs::failed))
        return corrupt;
    const auto version = tpm::version_from_number(tpm);
    if (!version)
        return corrupt;
    there.tpm = *version;
    there.as = static_cast<PoweredAs>(as);
    return there;
}

void PowerRecord::remove() const {
    ::unlink((path_ + ".next").c_str());
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
