#include "log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "vtpm/base/bytes.h"

namespace vtpm::vault {
namespace {

constexpr std::int64_t piece_size = 1024L * 1024;

std::size_t piece(std::int64_t left) {
    return static_cast<std::size_t>(std::min(piece_size, left));
}

tl::unexpected<Error> fail_log(int number) {
    return fail(Errc::io, NextAction::retry_later,
                "vault.db-wal: " + std::generic_category().message(number));
}

}  // namespace

Result<LogFile> LogFile::open(const char* path) {
    Fd file(::open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    struct stat found {};
    if (!file.valid() || ::fstat(file.get(), &found) != 0)
        return fail_log(errno);
    return LogFile(std::move(file), found.st_size);
}

Result<std::int64_t> LogFile::used() const {
    Bytes bytes(piece(size_));
    std::int64_t end = 0;
    for (std::int64_t at = 0; at < size_;) {
        const auto got = ::pread(file_.get(), bytes.data(), piece(size_ - at), at);
        if (got <= 0)
            return fail_log(got < 0 ? errno : EIO);
        const auto last = std::find_if(bytes.rend() - got, bytes.rend(),
                                       [](std::uint8_t byte) { return byte != 0; });
        if (last != bytes.rend())
            end = at + (bytes.rend() - last);
        at += got;
    }
    return end;
}

Result<void> LogFile::fill(std::int64_t from, std::int64_t to) const {
    const Bytes zeros(piece(std::max<std::int64_t>(to - from, 0)));
    while (from < to) {
        const auto written = ::pwrite(file_.get(), zeros.data(), piece(to - from), from);
        if (written < 0)
            return fail_log(errno);
        from += written;
    }
    if (::fdatasync(file_.get()) != 0)
        return fail_log(errno);
    return {};
}

}  // namespace vtpm::vault
