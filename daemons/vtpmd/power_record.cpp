#include "power_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/base/fd.h"

namespace vtpm::doorman {

bool PowerRecord::exists(const Uuid& instance) const {
    const auto content = read_file(path_.c_str(), 64);
    if (!content)
        return content.error().code != Errc::not_found;
    const std::string text(content->begin(), content->end());
    return !Uuid::parse(text) || text == instance.to_string();
}

Result<void> PowerRecord::write(const Uuid& instance) const {
    const Fd file(
        ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
        return fail_errno(path_, errno);
    return write_all(file.get(), as_bytes(instance.to_string()));
}

void PowerRecord::remove() const {
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
