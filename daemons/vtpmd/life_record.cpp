#include "life_record.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "vtpm/base/fd.h"

namespace vtpm::doorman {
namespace {

// Far from what a guest gets by being restored, and room to count on.
constexpr std::uint32_t lowest = 1U << 20U;
constexpr std::uint32_t highest = (1U << 31U) - 1;

Result<std::uint32_t> random_name() {
    for (;;) {
        std::uint32_t name = 0;
        if (::getrandom(&name, sizeof(name), 0) != sizeof(name))
            return fail_errno("getrandom", errno);
        name &= highest;
        if (name >= lowest)
            return name;
    }
}

}  // namespace

std::optional<std::uint32_t> LifeRecord::name() const {
    const auto content = read_file(path_.c_str(), 16);
    if (!content)
        return std::nullopt;
    const std::string text(content->begin(), content->end());
    std::uint32_t name = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), name);
    if (error != std::errc() || stop != text.data() + text.size() || name < lowest)
        return std::nullopt;
    return name;
}

// Two vtpmds of one domain may be here at once: only a whole file ever bears the name.
Result<std::uint32_t> LifeRecord::make() const {
    VTPM_TRY(const auto fresh, random_name());
    const std::string next = path_ + "." + std::to_string(::getpid());
    const Fd file(
        ::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid())
        return fail_errno(next, errno);
    VTPM_CHECK(write_all(file.get(), as_bytes(std::to_string(fresh))));
    const int moved =
        ::renameat2(AT_FDCWD, next.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE);
    const int error = errno;
    if (moved != 0)
        ::unlink(next.c_str());
    if (moved != 0 && error != EEXIST)
        return fail_errno(path_, error);
    if (const auto there = name())
        return *there;
    return fail(Errc::corrupt, path_ + " is not what was written there");
}

void LifeRecord::remove() const {
    ::unlink(path_.c_str());
}

}  // namespace vtpm::doorman
