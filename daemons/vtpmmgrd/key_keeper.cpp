#include "key_keeper.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "vtpm/base/log.h"

namespace vtpm::manager {
namespace {

constexpr std::string_view prefix = "xen-vtpm-keys-";
constexpr std::size_t max_size = 256UL * 1024;
constexpr int all_seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
constexpr std::uint64_t barrier_microseconds = 5'000'000;

// The N of "xen-vtpm-keys-N"; 0 if it is another name.
unsigned number_of(std::string_view name) {
    unsigned number = 0;
    if (name.starts_with(prefix))
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number);
    return number;
}

std::optional<SecretBytes> content_of(const Fd& memory) {
    struct stat about {};
    // The kernel may have added some (vm.memfd_noexec).
    const int seals = ::fcntl(memory.get(), F_GET_SEALS);
    if (seals < 0 || (seals & all_seals) != all_seals || ::fstat(memory.get(), &about) != 0 ||
        about.st_size <= 0 || static_cast<std::size_t>(about.st_size) > max_size) {
        return std::nullopt;
    }
    SecretBytes content(static_cast<std::size_t>(about.st_size));
    if (::pread(memory.get(), content.span().data(), content.size(), 0) !=
        static_cast<ssize_t>(content.size())) {
        return std::nullopt;
    }
    return content;
}

Result<Fd> sealed_memory(const SecretBytes& content) {
    Fd memory(::memfd_create("xen-vtpm-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory.valid())
        return fail_errno("memfd_create", errno);
    VTPM_CHECK(write_all(memory.get(), content.view()));
    if (::fcntl(memory.get(), F_ADD_SEALS, all_seals) != 0)
        return fail_errno("sealing a memfd", errno);
    return memory;
}

}  // namespace

KeyKeeper::KeyKeeper(bool enabled, std::vector<NamedFd> stored) : enabled_(enabled) {
    const Fd* newest = nullptr;
    for (const auto& [name, fd] : stored) {
        const unsigned number = number_of(name);
        if (number == 0)
            continue;
        in_store_.push_back(name);
        if (number <= number_)
            continue;
        number_ = number;
        newest = &fd;
    }
    if (newest != nullptr)
        left_behind_ = content_of(*newest);
}

KeyKeeper::~KeyKeeper() {
    let_go();
}

void KeyKeeper::let_go() {
    if (mapping_ != nullptr)
        ::munmap(mapping_, mapped_);
    mapping_ = nullptr;
}

void KeyKeeper::hold(Fd memory, std::size_t size) {
    let_go();
    void* const place = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, memory.get(), 0);
    if (place == MAP_FAILED)
        return;
    mapping_ = place;
    mapped_ = size;
    (void)::mlock(place, size);
    (void)::madvise(place, size, MADV_DONTDUMP);
}

// The new one is there before the old ones go: whenever we die, the store has keys.
Result<void> KeyKeeper::store(const SecretBytes& keys) {
    VTPM_TRY(Fd memory, sealed_memory(keys));
    const std::string name = std::string(prefix) + std::to_string(++number_);
    const std::vector<std::string> before = in_store_;
    in_store_.push_back(name);  // whatever comes of it: it has to be taken out again
    const int fd = memory.get();
    if (::sd_pid_notify_with_fds(0, 0, ("FDSTORE=1\nFDNAME=" + name).c_str(), &fd, 1) <= 0 ||
        ::sd_notify_barrier(0, barrier_microseconds) <= 0) {
        return fail(Errc::unavailable, "systemd does not take the descriptor");
    }
    in_store_ = {name};
    for (const auto& old : before)
        (void)::sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + old).c_str());
    hold(std::move(memory), keys.size());
    return {};
}

void KeyKeeper::keep_ahead(const SecretBytes& keys) {
    if (in_store_.empty())
        return;
    if (const auto done = store(keys); !done)
        spdlog::warn("new keys are not left to the next vtpmmgrd yet: {}", done.error().context);
}

Result<void> KeyKeeper::keep(vault::Vault& vault) {
    left_behind_.reset();
    const auto latch = vault.status().latch;
    const bool has_store = std::getenv("NOTIFY_SOCKET") != nullptr;
    // With a closed latch the store is the only place that keys can come from, enabled or not.
    if (!has_store || latch == vault::LatchState::none ||
        (!enabled_ && latch == vault::LatchState::open)) {
        return {};
    }
    const auto done = [&]() -> Result<void> {
        VTPM_TRY(const SecretBytes keys, vault.keys_at_hand());
        VTPM_CHECK(store(keys));
        // The chip is needed once more for a group that nobody has approved yet.
        if (vault.status().closed_groups > 0 && latch == vault::LatchState::open)
            return fail(Errc::locked, "a group is closed; the latch closes once all are open");
        return vault.close_latch();
    }();
    if (!done) {
        spdlog::warn("the boot latch is left as it is ({}): {}", to_string(done.error().code),
                     done.error().context);
    } else if (latch == vault::LatchState::open) {
        spdlog::info("boot latch closed: the chip gives the keys to nobody before it is reset");
    }
    return done;
}

}  // namespace vtpm::manager
