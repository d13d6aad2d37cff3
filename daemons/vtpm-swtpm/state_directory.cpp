#include "state_directory.h"

#include <fcntl.h>

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

}  // namespace

std::string instance_file_in(const std::string& directory, tpm::Version version) {
    return file_in(directory, version, "permall");
}

Result<std::string> instance_in(const std::string& directory, tpm::Version version) {
    const auto path = instance_file_in(directory, version);
    const auto read = read_file(path.c_str(), limit);
    if (!read && read.error().code == Errc::not_found)
        return fail(Errc::not_found, path + " is not there: swtpm_setup makes a TPM");
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
    const Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid())
        return errno == EEXIST ? Result<void>() : fail_errno(file, errno);
    return write_all(fd.get(), as_bytes(std::string(mark) + uuid + "\n"));
}

std::string volatile_file_in(const std::string& directory, tpm::Version version) {
    return file_in(directory, version, "volatilestate");
}

}  // namespace vtpm::swtpm
