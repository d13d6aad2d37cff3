#include "power_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "vtpm/base/fd.h"

namespace vtpm::doorman {
namespace {

constexpr std::size_t size_limit = 128;

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

Result<void> PowerRecord::write(const Uuid& instance, std::optional<PutBy> put_by) const {
    const Fd file(
        ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
        return fail_errno(path_, errno);
    std::string text = instance.to_string();
    if (put_by)
        text += " " + std::to_string(put_by->label) + " " + std::to_string(put_by->life) + " .";
    return write_all(file.get(), as_bytes(text));
}

std::optional<PutBy> PowerRecord::put_by(const Uuid& instance) const {
    const auto content = read_file(path_.c_str(), size_limit);
    if (!content)
        return std::nullopt;
    std::istringstream text(std::string(content->begin(), content->end()));
    std::string uuid;
    PutBy there;
    char end = 0;  // it was written to its end
    if (!(text >> uuid >> there.label >> there.life >> end) || end != '.' ||
        uuid != instance.to_string())
        return std::nullopt;
    return there;
}

void PowerRecord::remove() const {
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
