#include "descriptor_store.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "vtpm/base/log.h"

namespace vtpm::doorman {
namespace {

constexpr const char* secret_name = "heir";
constexpr std::size_t secret_size = 16;

}  // namespace

DescriptorStore DescriptorStore::inherited() {
    DescriptorStore store;
    char** names = nullptr;
    const int count = ::sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count; ++i) {
        store.left_[names != nullptr ? names[i] : ""].emplace_back(SD_LISTEN_FDS_START + i);
        if (names != nullptr)
            std::free(names[i]);
    }
    std::free(names);
    return store;
}

DescriptorStore::Kind DescriptorStore::kind_of(const Fd& descriptor) {
    struct stat about {};
    if (::fstat(descriptor.get(), &about) != 0)
        return Kind::other;
    return S_ISSOCK(about.st_mode)   ? Kind::socket
           : S_ISFIFO(about.st_mode) ? Kind::pipe
                                     : Kind::other;
}

// FDPOLL=0: systemd is not to take out the channel of an engine that has ended. Its last words are
// in there.
void DescriptorStore::put(const std::string& name, std::span<const int> descriptors) {
    const std::string what = "FDSTORE=1\nFDPOLL=0\nFDNAME=" + name;
    const int told = ::sd_pid_notify_with_fds(0, 0, what.c_str(), descriptors.data(),
                                              static_cast<unsigned>(descriptors.size()));
    if (told < 0)
        spdlog::warn("systemd does not keep {} for the next vtpmd: {}", name,
                     std::strerror(-told));  // NOLINT(concurrency-mt-unsafe): one thread
}

void DescriptorStore::drop(const std::string& name) {
    (void)::sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + name).c_str());
}

DescriptorStore::Descriptors DescriptorStore::take(const std::string& name) {
    auto found = left_.extract(name);
    return found.empty() ? Descriptors() : std::move(found.mapped());
}

std::vector<std::string> DescriptorStore::left(std::string_view prefix) const {
    std::vector<std::string> names;
    for (const auto& [name, descriptors] : left_) {
        if (name.starts_with(prefix))
            names.push_back(name);
    }
    return names;
}

Result<SecretBytes> DescriptorStore::secret() {
    SecretBytes secret(secret_size);
    auto* const bytes = secret.span().data();
    for (const auto& memory : take(secret_name)) {
        if (::pread(memory.get(), bytes, secret_size, 0) == secret_size)
            return secret;
        drop(secret_name);
    }
    if (::getrandom(bytes, secret_size, 0) != secret_size)
        return fail_errno("getrandom", errno);
    const Fd memory(::memfd_create("xen-vtpm-heir", MFD_CLOEXEC));
    if (!memory.valid())
        return fail_errno("memfd_create", errno);
    VTPM_CHECK(write_all(memory.get(), secret.view()));
    const int descriptor = memory.get();
    put(secret_name, {&descriptor, 1});
    return secret;
}

}  // namespace vtpm::doorman
