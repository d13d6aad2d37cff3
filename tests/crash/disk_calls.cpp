// The C library's calls that change files, in their place: what touches the active Disk's directory
// is counted, recorded, and refused after its power cut; everything else goes on as it was. A
// program's own symbols come before the libraries', so SQLite calls these too. That no call is
// missing here shows World::check_cache().
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <ctime>

#include "clock.h"
#include "disk.h"

using vtpm::crash::Disk;

namespace {

Disk* disk_of(const char* path) {
    Disk* const disk = Disk::active();
    return disk != nullptr && disk->covers(path) ? disk : nullptr;
}

Disk* disk_of(int fd) {
    Disk* const disk = Disk::active();
    return disk != nullptr && disk->covers(fd) ? disk : nullptr;
}

int power_is_gone() {
    errno = EIO;
    return -1;
}

int raw_open(const char* path, int flags, mode_t mode) {
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int do_open(const char* path, int flags, mode_t mode) {
    Disk* const disk = disk_of(path);
    if (disk == nullptr)
        return raw_open(path, flags, mode);
    bool created = false;
    if ((flags & O_CREAT) != 0) {
        struct stat found {};
        created = ::lstat(path, &found) != 0;
        if (created && !disk->step())
            return power_is_gone();
    }
    const int fd = raw_open(path, flags, mode);
    if (fd >= 0)
        disk->opened(fd, path, created);
    return fd;
}

ssize_t do_write(int fd, const void* data, std::size_t size, std::size_t offset) {
    Disk* const disk = disk_of(fd);
    if (disk != nullptr && !disk->step())
        return power_is_gone();
    const auto done = ::syscall(SYS_pwrite64, fd, data, size, offset);
    if (disk != nullptr && done > 0) {
        disk->wrote(fd, offset,
                    {static_cast<const std::uint8_t*>(data), static_cast<std::size_t>(done)});
    }
    return done;
}

// The page cache needs no sync, only the disk.
int do_sync(long number, int fd) {
    Disk* const disk = disk_of(fd);
    if (disk == nullptr)
        return static_cast<int>(::syscall(number, fd));
    return disk->step() && disk->synced(fd) ? 0 : power_is_gone();
}

}  // namespace

extern "C" {

// NOLINTBEGIN: the names and types are the C library's.
int open(const char* path, int flags, ...) {
    std::va_list list;
    va_start(list, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return do_open(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    std::va_list list;
    va_start(list, flags);
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return do_open(path, flags, mode);
}

// What the two are with _FORTIFY_SOURCE.
int __open_2(const char* path, int flags) {
    return do_open(path, flags, 0);
}

int __open64_2(const char* path, int flags) {
    return do_open(path, flags, 0);
}

int close(int fd) {
    if (Disk* const disk = disk_of(fd))
        disk->closed(fd);
    return static_cast<int>(::syscall(SYS_close, fd));
}

ssize_t pwrite64(int fd, const void* data, std::size_t size, off64_t offset) {
    return do_write(fd, data, size, static_cast<std::size_t>(offset));
}

ssize_t pwrite(int fd, const void* data, std::size_t size, off_t offset) {
    return do_write(fd, data, size, static_cast<std::size_t>(offset));
}

ssize_t write(int fd, const void* data, std::size_t size) {
    if (disk_of(fd) == nullptr)
        return ::syscall(SYS_write, fd, data, size);
    const off_t at = ::lseek(fd, 0, SEEK_CUR);
    const ssize_t done = do_write(fd, data, size, static_cast<std::size_t>(at));
    if (done > 0)
        ::lseek(fd, done, SEEK_CUR);
    return done;
}

int ftruncate64(int fd, off64_t size) noexcept {
    Disk* const disk = disk_of(fd);
    if (disk != nullptr && !disk->step())
        return power_is_gone();
    const int done = static_cast<int>(::syscall(SYS_ftruncate, fd, size));
    if (disk != nullptr && done == 0)
        disk->truncated(fd, static_cast<std::size_t>(size));
    return done;
}

int ftruncate(int fd, off_t size) noexcept {
    return ftruncate64(fd, size);
}

int fsync(int fd) {
    return do_sync(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return do_sync(SYS_fdatasync, fd);
}

int unlink(const char* path) noexcept {
    Disk* const disk = disk_of(path);
    struct stat found {};
    const bool changes = disk != nullptr && ::lstat(path, &found) == 0;
    if (changes && !disk->step())
        return power_is_gone();
    const int done = static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0));
    if (changes && done == 0)
        disk->removed(path);
    return done;
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned int flags) noexcept {
    Disk* const disk = disk_of(from);
    if (disk != nullptr && !disk->step())
        return power_is_gone();
    const int done =
        static_cast<int>(::syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
    if (disk != nullptr && done == 0)
        disk->renamed(from, to);
    return done;
}

int mkdir(const char* path, mode_t mode) noexcept {
    Disk* const disk = disk_of(path);
    struct stat found {};
    const bool changes = disk != nullptr && ::lstat(path, &found) != 0;
    if (changes && !disk->step())
        return power_is_gone();
    const int done = static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
    if (changes && done == 0)
        disk->made_directory();
    return done;
}

std::time_t time(std::time_t* out) noexcept {
    const std::time_t now = vtpm::crash::Clock::now();
    if (out != nullptr)
        *out = now;
    return now;
}
// NOLINTEND

}  // extern "C"
