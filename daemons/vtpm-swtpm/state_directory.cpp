#include "state_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/base/fd.h"
#include "vtpm/base/uuid.h"

namespace vtpm::swtpm {
namespace {

constexpr std::string_view mark = "xen-vtpm-instance ";
constexpr std::size_t limit = 128;

std::string file_in(const std::string& directory, tpm::Version version, const char* kind) {
    return directory + (version == tpm::Version::v2_0 ? "/tpm2-00." : "/tpm-00.") + kind;
}

// What says which TPM is served must not be another user's to write, nor a link of his.
Result<void> check_place(const std::string& path, mode_t type) {
    struct stat there {};
    if (::lstat(path.c_str(), &there) != 0)
        return errno == ENOENT ? Result<void>(fail(Errc::not_found, path + " is not there"))
                               : Result<void>(fail_errno(path, errno));
    if ((there.st_mode & S_IFMT) != type || there.st_uid != ::geteuid() ||
        (there.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return fail(Errc::permission,
                    path + (type == S_IFDIR ? " has to be a directory" : " has to be a file") +
                        " of root's that nobody else can write to");
    return {};
}

}  // namespace

std::string instance_file_in(const std::string& directory, tpm::Version version) {
    return file_in(directory, version, "permall");
}

Result<std::string> instance_in(const std::string& directory, tpm::Version version) {
    VTPM_CHECK(check_place(directory, S_IFDIR));
    const auto path = instance_file_in(directory, version);
    if (const auto place = check_place(path, S_IFREG); !place) {
        if (place.error().code != Errc::not_found)
            return tl::make_unexpected(place.error());
        return fail(Errc::not_found,
                    path + " is not there; to make a TPM: vtpm-swtpm-setup --tpmstate " +
                        directory + (version == tpm::Version::v2_0 ? " --tpm2" : ""));
    }
    const auto read = read_file(path.c_str(), limit);
    if (!read && read.error().code != Errc::too_large)
        return tl::make_unexpected(read.error());
    const std::string text = read ? std::string(read->begin(), read->end()) : "";
    if (text.compare(0, mark.size(), mark) == 0) {
        const auto end = text.find_last_not_of(" \n");
        if (const auto uuid = Uuid::parse(text.substr(mark.size(), end + 1 - mark.size())))
            return uuid->to_string();
    }
    return fail(Errc::malformed,
                path +
                    " names no TPM of the vault; if it is a state of swtpm's, then vtpmctl "
                    "import-swtpm brings it there");
}

Result<void> name_again(const std::string& file, const std::string& uuid) {
    struct stat there {};
    if (::lstat(file.c_str(), &there) == 0)
        return {};
    const auto next = file + ".new";
    const Fd fd(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid())
        return fail_errno(next, errno);
    VTPM_CHECK(write_all(fd.get(), as_bytes(std::string(mark) + uuid + "\n")));
    if (::fsync(fd.get()) != 0 || ::rename(next.c_str(), file.c_str()) != 0)
        return fail_errno(file, errno);
    return {};
}

std::string volatile_file_in(const std::string& directory, tpm::Version version) {
    return file_in(directory, version, "volatilestate");
}

}  // namespace vtpm::swtpm
