#include "swtpm_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "swtpm_blob.h"

namespace vtpm::control {
namespace {

constexpr std::array suspended = {"volatilestate", "savestate"};

// A linear file begins with a table; its numbers are little-endian.
//     u64 magic | u8 version (1) | u8 0 | u16 192 | 15 times: u32 offset, u32 size, u32 room
// The first entry is the permanent state, then the two of a suspended TPM. Offset 0: there is none.
constexpr std::size_t table_size = 192;
constexpr std::size_t first_entry = 12;
constexpr std::size_t entry_size = 12;
constexpr std::string_view linear_magic = "nilmptws";

std::string file_name(tpm::Version version, std::string_view state) {
    return (version == tpm::Version::v2_0 ? "tpm2-00." : "tpm-00.") + std::string(state);
}

// Neither a link nor a device nor a pipe, at which opening could wait.
Result<Fd> open_regular(int directory, const std::string& name) {
    Fd file(::openat(directory, name.c_str(),
                     O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK));
    if (!file.valid() && errno == ENOENT)
        return fail(Errc::not_found, name + " is not there");
    struct stat about {};
    const bool is_link = !file.valid() && errno == ELOOP;
    if (!file.valid() && !is_link)
        return fail_errno(name, errno);
    if (is_link || ::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode))
        return fail(Errc::invalid_argument, name + " is not a regular file");
    return file;
}

Result<std::uint64_t> size_of(const Fd& file) {
    struct stat about {};
    if (::fstat(file.get(), &about) != 0)
        return fail_errno("stat", errno);
    return static_cast<std::uint64_t>(about.st_size);
}

Result<SecretBytes> read_at(const Fd& file, std::uint64_t offset, std::size_t size) {
    SecretBytes bytes(size);
    for (std::size_t done = 0; done < size;) {
        const auto got = ::pread(file.get(), bytes.span().data() + done, size - done,
                                 static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("read", errno);
        if (got == 0)
            return fail(Errc::corrupt, "it is cut short");
        done += static_cast<std::size_t>(got);
    }
    return bytes;
}

// A lock that swtpm's own excludes: it takes one for writing when its TPM starts.
Result<void> lock_state(const Fd& file, const std::string& where) {
    struct flock shared {};
    shared.l_type = F_RDLCK;
    shared.l_whence = SEEK_SET;
    if (::fcntl(file.get(), F_SETLK, &shared) == 0)
        return {};
    if (errno != EACCES && errno != EAGAIN)
        return fail_errno("lock " + where, errno);
    struct flock holder {};
    holder.l_type = F_RDLCK;
    holder.l_whence = SEEK_SET;
    std::string who = "a swtpm";
    if (::fcntl(file.get(), F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK && holder.l_pid > 0)
        who = "process " + std::to_string(holder.l_pid);
    return fail(Errc::in_use, where + " is in use by " + who + ": shut its guest down first");
}

Result<void> take(ByteView blob, std::optional<tpm::Version> version, const SwtpmKey* key,
                  SwtpmState& state) {
    VTPM_TRY(state.permanent, open_swtpm_blob(blob, key));
    const auto found = version_of_permanent(state.permanent.view());
    if (!found)
        return fail(Errc::corrupt, "what it holds is no permanent state of libtpms'");
    if (found != version.value_or(*found)) {
        return fail(Errc::invalid_argument,
                    "it holds a TPM " + std::string(tpm::to_string(*found)));
    }
    state.version = *found;
    return {};
}

Result<tpm::Version> version_in(int directory, const std::string& path) {
    std::vector<tpm::Version> found;
    for (const auto version : {tpm::Version::v1_2, tpm::Version::v2_0}) {
        struct stat about {};
        const auto name = file_name(version, "permall");
        if (::fstatat(directory, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0)
            found.push_back(version);
    }
    if (found.empty()) {
        return fail(Errc::not_found,
                    path +
                        " has neither tpm-00.permall nor tpm2-00.permall: name the directory "
                        "that swtpm's --tpmstate has (libvirt: "
                        "/var/lib/libvirt/swtpm/UUID/tpm1.2 or tpm2)");
    }
    if (found.size() > 1) {
        return fail(Errc::invalid_argument,
                    path + " has a TPM 1.2 and a TPM 2.0: say which with --tpm");
    }
    return found.front();
}

Result<SwtpmState> read_directory(const Fd& directory, const std::string& path,
                                  std::optional<tpm::Version> wanted, const SwtpmKey* key) {
    SwtpmState state;
    auto lock_file = open_regular(directory.get(), ".lock");
    if (!lock_file && lock_file.error().code != Errc::not_found)
        return tl::make_unexpected(std::move(lock_file).error().within(path));
    if (lock_file) {  // swtpm makes it at its first start; a copied state may be without
        state.lock = std::move(*lock_file);
        VTPM_CHECK(lock_state(state.lock, path));
    }
    if (!wanted) {
        VTPM_TRY(wanted, version_in(directory.get(), path));
    }
    const auto name = file_name(*wanted, "permall");
    const auto read = [&]() -> Result<void> {
        VTPM_TRY(const Fd file, open_regular(directory.get(), name));
        VTPM_TRY(const std::uint64_t size, size_of(file));
        if (size > max_swtpm_blob)
            return fail(Errc::too_large, "no TPM has a state of that size");
        VTPM_TRY(const SecretBytes blob, read_at(file, 0, size));
        return take(blob.view(), wanted, key, state);
    };
    if (auto done = read(); !done)
        return tl::make_unexpected(std::move(done).error().within(path + "/" + name));
    for (const char* const other : suspended) {
        struct stat about {};
        const auto other_name = file_name(*wanted, other);
        if (::fstatat(directory.get(), other_name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0)
            state.left_out.push_back(other_name);
    }
    return state;
}

std::uint64_t little_endian(ByteView bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i > 0; --i)
        value = (value << 8U) | bytes[i - 1];
    return value;
}

Result<SwtpmState> read_linear(Fd file, std::optional<tpm::Version> wanted, const SwtpmKey* key) {
    VTPM_CHECK(lock_state(file, "it"));
    VTPM_TRY(const std::uint64_t all, size_of(file));
    const auto table = read_at(file, 0, table_size);
    if (!table || !equal_constant_time(table->view().first(8), as_bytes(linear_magic)))
        return fail(Errc::malformed, "it is neither a directory nor a file of swtpm's");
    if (table->view()[8] != 1 || little_endian(table->view().subspan(10, 2)) != table_size)
        return fail(Errc::unsupported, "it is in the format of a newer swtpm");
    const auto number = [&](std::size_t entry, std::size_t field) {
        return little_endian(
            table->view().subspan(first_entry + entry * entry_size + field * 4, 4));
    };
    const std::uint64_t offset = number(0, 0);
    const std::uint64_t size = number(0, 1);
    if (offset == 0)
        return fail(Errc::not_found, "no TPM has ever stored its state in it");
    if (size > max_swtpm_blob)
        return fail(Errc::too_large, "no TPM has a state of that size");
    if (offset < table_size || size > number(0, 2) || offset + size > all)
        return fail(Errc::corrupt, "it is cut or altered: its table is wrong");
    SwtpmState state;
    VTPM_TRY(const SecretBytes blob, read_at(file, offset, size));
    VTPM_CHECK(take(blob.view(), wanted, key, state));
    for (std::size_t i = 0; i < suspended.size(); ++i) {
        if (number(i + 1, 0) != 0)
            state.left_out.emplace_back(suspended[i]);
    }
    state.lock = std::move(file);
    return state;
}

}  // namespace

Result<SwtpmState> read_swtpm_state(const std::string& path, std::optional<tpm::Version> version,
                                    const SwtpmKey* key) {
    const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.valid())
        return read_directory(directory, path, version, key);
    if (errno == ENOENT)
        return fail(Errc::not_found, path + " is not there");
    if (errno != ENOTDIR)
        return fail_errno(path, errno);
    VTPM_TRY(Fd file, open_regular(AT_FDCWD, path));
    auto state = read_linear(std::move(file), version, key);
    if (!state)
        return tl::make_unexpected(std::move(state).error().within(path));
    return state;
}

}  // namespace vtpm::control
