#include "vault_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "vtpm/base/fd.h"

namespace vtpm::vault {
namespace {

enum class Kind { directory, file };

// One page of the smallest size (sqlite.org, "Database File Format" 1.3). SQLite takes a file that
// is shorter for an empty one and writes a new database over it.
constexpr off_t smallest_database = 512;

// None if there is nothing of that name.
Result<std::optional<struct stat>> look(const std::filesystem::path& path) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) == 0)
        return found;
    if (errno == ENOENT)
        return std::nullopt;
    return fail_errno(path.string(), errno);
}

Result<bool> is_private(const std::filesystem::path& path, Kind kind) {
    VTPM_TRY(const auto found, look(path));
    if (!found)
        return false;
    const std::string name = path.string();
    if (kind == Kind::directory ? !S_ISDIR(found->st_mode) : !S_ISREG(found->st_mode)) {
        return fail(Errc::permission, NextAction::ask_operator,
                    name + " is a symlink or something else than it should be");
    }
    if (found->st_uid != ::geteuid()) {
        return fail(Errc::permission, NextAction::ask_operator, name + " belongs to another user");
    }
    if ((found->st_mode & 077U) != 0) {
        return fail(Errc::permission, NextAction::ask_operator,
                    name + " is open to other users (chmod go-rwx)");
    }
    if (kind == Kind::file && found->st_nlink != 1) {
        return fail(Errc::permission, NextAction::ask_operator, name + " has a second name");
    }
    return true;
}

// A new file with one uuid in it, durable but for its name.
Result<void> write_uuid(const std::filesystem::path& path, const Uuid& uuid) {
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid())
        return fail_errno(path.string(), errno);
    VTPM_CHECK(write_all(fd.get(), as_bytes(uuid.to_string() + "\n")));
    if (::fsync(fd.get()) != 0)
        return fail_errno(path.string(), errno);
    return {};
}

Result<void> sync_path(const std::filesystem::path& path, int flags) {
    const Fd fd(::open(path.c_str(), flags | O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid() || ::fsync(fd.get()) != 0)
        return fail_errno(path.string(), errno);
    return {};
}

}  // namespace

Result<bool> VaultDirectory::holds_vault() const {
    VTPM_TRY(const bool there, is_private(path_, Kind::directory));
    if (!there)
        return false;
    VTPM_TRY(const bool database_there, is_private(database(), Kind::file));
    if (database_there) {
        // SQLite would take it for a new database.
        VTPM_TRY(const auto found, look(database()));
        if (found && found->st_size < smallest_database) {
            return fail(Errc::corrupt, database().string() + " is empty or cut off");
        }
        return true;
    }
    for (const char* const trace : {"set-up", "vault.db-wal", "vault.db-shm", "vault.db-journal"}) {
        VTPM_TRY(const auto found, look(path_ / trace));
        if (found) {
            return fail(Errc::corrupt, database().string() + " is missing, but " + trace +
                                           " shows that there was one; restore it from a backup");
        }
    }
    return false;
}

Result<void> VaultDirectory::prepare() const {
    const bool made = ::mkdir(path_.c_str(), 0700) == 0;
    if (!made && errno != EEXIST)
        return fail_errno(path_.string(), errno);
    VTPM_CHECK(is_private(path_, Kind::directory));
    // Its name, too, has to be on the disk before anything in it counts. Who made it may have been
    // cut short here; but if it is an administrator's, we need not be able to read what is above.
    if (const auto synced = sync_path(path_ / "..", O_DIRECTORY); !synced && made)
        return synced;
    for (const char* const suffix : {"", "-journal", "-wal", "-shm"}) {
        const std::string leftover = new_database().string() + suffix;
        if (::unlink(leftover.c_str()) != 0 && errno != ENOENT) {
            return fail_errno(leftover, errno);
        }
    }
    const Fd fd(
        ::open(new_database().c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd.valid())
        return fail_errno(new_database().string(), errno);
    return {};
}

Result<void> VaultDirectory::publish(const Uuid& manager) const {
    VTPM_CHECK(sync_path(new_database(), 0));
    if (::renameat2(AT_FDCWD, new_database().c_str(), AT_FDCWD, database().c_str(),
                    RENAME_NOREPLACE) != 0) {
        return fail_errno(database().string(), errno);
    }
    VTPM_CHECK(sync());
    return mark(manager);
}

Result<void> VaultDirectory::mark(const Uuid& manager) const {
    VTPM_TRY(const auto found, look(marker()));
    if (found)
        return {};
    VTPM_CHECK(write_uuid(marker(), manager));
    return sync();
}

Result<void> VaultDirectory::begin(const Uuid& manager) const {
    VTPM_CHECK(write_uuid(beginning(), manager));
    return sync();
}

Result<std::optional<Uuid>> VaultDirectory::begun() const {
    VTPM_TRY(const bool there, is_private(beginning(), Kind::file));
    if (!there)
        return std::nullopt;
    std::array<char, 36> text{};
    const Fd fd(::open(beginning().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid())
        return fail_errno(beginning().string(), errno);
    const auto size = ::read(fd.get(), text.data(), text.size());
    if (size < 0)
        return fail_errno(beginning().string(), errno);
    const auto uuid = Uuid::parse({text.data(), static_cast<std::size_t>(size)});
    // Cut off: nothing was made in its name yet.
    return uuid ? *uuid : Uuid();
}

Result<void> VaultDirectory::end() const {
    if (::unlink(beginning().c_str()) != 0 && errno != ENOENT)
        return fail_errno(beginning().string(), errno);
    return sync();
}

Result<void> VaultDirectory::sync() const {
    return sync_path(path_, O_DIRECTORY);
}

}  // namespace vtpm::vault
