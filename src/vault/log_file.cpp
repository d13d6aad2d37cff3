#include "log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
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

// Most of it is zeros, and they are looked at whenever a key goes: a page at a time.
std::size_t without_zeros(ByteView bytes) {
    static constexpr std::array<std::uint8_t, 4096> zeros{};
    auto size = bytes.size();
    while (size >= zeros.size() &&
           std::memcmp(bytes.data() + size - zeros.size(), zeros.data(), zeros.size()) == 0)
        size -= zeros.size();
    while (size > 0 && bytes[size - 1] == 0)
        --size;
    return size;
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
        const auto size = without_zeros(ByteView(bytes).first(static_cast<std::size_t>(got)));
        if (size > 0)
            end = at + static_cast<std::int64_t>(size);
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
