#include "files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace vtpm::control {
namespace {

bool plain_text(ByteView bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) {
        return (byte >= ' ' && byte < 0x7f) || byte == '\n' || byte == '\r' || byte == '\t';
    });
}

}  // namespace

Result<SecretBytes> read_secret(const std::string& path, std::size_t limit) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file.valid())
        return fail_errno(path, errno);
    SecretBytes secret(limit + 1);
    std::size_t size = 0;
    while (size < secret.size()) {
        const auto got = ::read(file.get(), secret.span().data() + size, secret.size() - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(path, errno);
        if (got == 0)
            break;
        size += static_cast<std::size_t>(got);
    }
    if (size > limit)
        return fail(Errc::too_large, path + " is too large for a key");
    if (size == 0)
        return fail(Errc::invalid_argument, path + " is empty");
    secret.shrink(size);
    return secret;
}

Result<Bytes> read_named_file(const std::string& path, std::size_t limit) {
    auto content = read_file(path.c_str(), limit);
    if (!content && content.error().code == Errc::not_found)
        return fail_errno(path, ENOENT);
    return content;
}

Result<std::string> read_public_key(const std::string& path) {
    // Until we know better it may be a secret.
    VTPM_TRY(const SecretBytes content, read_secret(path));
    const std::string_view text(reinterpret_cast<const char*>(content.view().data()),
                                content.size());
    if (text.find("PRIVATE KEY") != std::string_view::npos) {
        return fail(Errc::invalid_argument,
                    path +
                        " is a private key, which stays where it is; its public half: openssl "
                        "pkey -in " +
                        path + " -pubout");
    }
    if (text.find("-----BEGIN PUBLIC KEY-----") == std::string_view::npos ||
        !plain_text(content.view())) {
        return fail(Errc::invalid_argument,
                    path + " is no public key in PEM (\"-----BEGIN PUBLIC KEY-----\")");
    }
    return std::string(text);
}

NewFile::~NewFile() {
    if (file_.valid() && !kept_)
        ::unlink(path_.c_str());
}

Result<void> NewFile::make(unsigned mode) {
    file_ = Fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!file_.valid() && errno == EEXIST)
        return fail(Errc::already_exists, path_ + " exists; name a new file");
    if (!file_.valid())
        return fail_errno(path_, errno);
    return {};
}

Result<void> NewFile::copy(const Fd& from) {
    Bytes part(64UL * 1024);
    for (;;) {
        const auto got = ::read(from.get(), part.data(), part.size());
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("what is to be copied to " + path_, errno);
        if (got == 0)
            return {};
        VTPM_CHECK(write_all(file_.get(), ByteView(part).first(static_cast<std::size_t>(got))));
    }
}

Result<void> NewFile::keep(ByteView content) {
    VTPM_CHECK(write_all(file_.get(), content));
    if (::fsync(file_.get()) != 0)
        return fail_errno(path_, errno);
    kept_ = true;
    return keep_name();
}

// The file's entry in its directory has to outlive a power cut as well.
Result<void> NewFile::keep_name() {
    const auto parent = std::filesystem::absolute(path_).parent_path();
    const Fd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid() || ::fsync(directory.get()) != 0)
        return fail_errno(parent.string(), errno);
    return {};
}

}  // namespace vtpm::control
