#include "seat_number.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

namespace vtpm::swtpm {

Result<SeatNumber> SeatNumber::take(const std::string& directory) {
    for (std::uint32_t number = 0; number < count; ++number) {
        const auto path = directory + "/seat-" + std::to_string(number);
        Fd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!lock.valid())
            return fail_errno(path, errno);
        if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0)
            return SeatNumber(number, std::move(lock));
        if (errno != EWOULDBLOCK)
            return fail_errno(path, errno);
    }
    return fail(Errc::unavailable, "no seat is free: too many vtpm-swtpm run on this host");
}

}  // namespace vtpm::swtpm
