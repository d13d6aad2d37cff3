#include "vtpm/xen/libxen_store.h"

#include <stdlib.h>
extern "C" {  // Xen's headers do not say so themselves
#include <xenstore.h>
}

#include <cerrno>
#include <memory>

namespace vtpm::xen {

namespace {

struct Free {
    void operator()(void* memory) const { ::free(memory); }
};
template <typename T>
using Malloced = std::unique_ptr<T, Free>;

tl::unexpected<Error> failed(const char* what, const std::string& path) {
    const int error_number = errno;
    return fail_errno(std::string(what) + " " + path, error_number);
}

}  // namespace

Result<std::unique_ptr<LibxenStore>> LibxenStore::open() {
    xs_handle* const handle = xs_open(0);
    if (handle == nullptr)
        return fail_errno("connecting to xenstore", errno);
    return std::unique_ptr<LibxenStore>(new LibxenStore(handle));
}

LibxenStore::~LibxenStore() {
    xs_close(handle_);
}

Result<std::optional<std::string>> LibxenStore::read(const std::string& path) {
    unsigned size = 0;
    const Malloced<void> value(xs_read(handle_, XBT_NULL, path.c_str(), &size));
    if (value)
        return std::string(static_cast<const char*>(value.get()), size);
    if (errno == ENOENT)
        return std::optional<std::string>();
    return failed("reading", path);
}

Result<std::optional<std::vector<std::string>>> LibxenStore::list(const std::string& path) {
    unsigned count = 0;
    const Malloced<char*> names(xs_directory(handle_, XBT_NULL, path.c_str(), &count));
    if (names)
        return std::vector<std::string>(names.get(), names.get() + count);
    if (errno == ENOENT)
        return std::optional<std::vector<std::string>>();
    return failed("listing", path);
}

Result<bool> LibxenStore::exists(const std::string& path) {
    VTPM_TRY(const auto value, read(path));
    return value.has_value();
}

Result<void> LibxenStore::write(const std::string& path, const std::string& value) {
    const auto size = static_cast<unsigned>(value.size());
    if (!xs_write(handle_, XBT_NULL, path.c_str(), value.data(), size)) {
        return failed("writing", path);
    }
    return {};
}

Result<void> LibxenStore::write_together(std::span<const StoreEntry> entries) {
    // A transaction that met another writer is simply done again; the bound is against a store
    // in which somebody keeps writing to the same nodes on purpose.
    constexpr int attempts = 100;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        const xs_transaction_t transaction = xs_transaction_start(handle_);
        if (transaction == XBT_NULL)
            return fail_errno("starting a xenstore transaction", errno);
        for (const auto& entry : entries) {
            if (!xs_write(handle_, transaction, entry.path.c_str(), entry.value.data(),
                          static_cast<unsigned>(entry.value.size()))) {
                auto failure = failed("writing", entry.path);
                xs_transaction_end(handle_, transaction, true);
                return failure;
            }
        }
        if (xs_transaction_end(handle_, transaction, false))
            return {};
        if (errno != EAGAIN)
            return fail_errno("ending a xenstore transaction", errno);
    }
    return fail(Errc::in_use, NextAction::retry_later, "xenstore transaction met others' writes");
}

Result<void> LibxenStore::remove(const std::string& path) {
    if (!xs_rm(handle_, XBT_NULL, path.c_str()) && errno != ENOENT)
        return failed("removing", path);
    return {};
}

Result<void> LibxenStore::watch(const std::string& path, const std::string& token) {
    if (!xs_watch(handle_, path.c_str(), token.c_str()))
        return failed("watching", path);
    return {};
}

Result<void> LibxenStore::unwatch(const std::string& path, const std::string& token) {
    if (!xs_unwatch(handle_, path.c_str(), token.c_str()))
        return failed("unwatching", path);
    return {};
}

int LibxenStore::fd() const {
    return xs_fileno(handle_);
}

Result<std::optional<StoreEvent>> LibxenStore::next_event() {
    const Malloced<char*> event(xs_check_watch(handle_));
    if (event) {
        return StoreEvent{event.get()[XS_WATCH_PATH], event.get()[XS_WATCH_TOKEN]};
    }
    if (errno == EAGAIN)
        return std::optional<StoreEvent>();
    return fail_errno("reading xenstore events", errno);
}

}  // namespace vtpm::xen
