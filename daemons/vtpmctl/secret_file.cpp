#include "secret_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "vtpm/base/fd.h"

namespace vtpm::control {

Result<SecretBytes> read_secret_file(const std::string& path, std::size_t limit) {
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
        return fail(Errc::too_large, path + " is too large to be a key");
    if (size == 0)
        return fail(Errc::invalid_argument, path + " is empty");
    secret.shrink(size);
    return secret;
}

}  // namespace vtpm::control
