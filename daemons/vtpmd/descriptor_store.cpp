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

// It is charged to the unit, which may not swap.
Result<void> DescriptorStore::put_memory(const std::string& name, ByteView bytes) {
    const Fd memory(::memfd_create(name.c_str(), MFD_CLOEXEC));
    if (!memory.valid())
        return fail_errno("memfd_create", errno);
    VTPM_CHECK(write_all(memory.get(), bytes));
    const int descriptor = memory.get();
    put(name, {&descriptor, 1});
    return {};
}

SecretBytes DescriptorStore::take_memory(const std::string& name) {
    for (const auto& memory : take(name)) {
        struct stat about {};
        if (::fstat(memory.get(), &about) != 0 || about.st_size <= 0 ||
            static_cast<std::uint64_t>(about.st_size) > max_memory)
            continue;
        SecretBytes bytes(static_cast<std::size_t>(about.st_size));
        if (::pread(memory.get(), bytes.span().data(), bytes.size(), 0) == about.st_size)
            return bytes;
    }
    return {};
}

Result<SecretBytes> DescriptorStore::secret() {
    SecretBytes secret = take_memory(secret_name);
    if (secret.size() == secret_size)
        return secret;
    drop(secret_name);
    VTPM_TRY(secret, new_secret());
    VTPM_CHECK(put_memory(secret_name, secret.view()));
    return secret;
}

Result<SecretBytes> DescriptorStore::new_secret() {
    SecretBytes secret(secret_size);
    if (::getrandom(secret.span().data(), secret_size, 0) != secret_size)
        return fail_errno("getrandom", errno);
    return secret;
}

}  // namespace vtpm::doorman
