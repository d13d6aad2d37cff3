// LibxenStore: Store on libxenstore (the socket of xenstored, else /dev/xen/xenbus).
// The library starts a reader thread of its own with the first watch.
#pragma once

#include <memory>

#include "vtpm/xen/store.h"

struct xs_handle;

namespace vtpm::xen {

class LibxenStore final : public Store {
  public:
    static Result<std::unique_ptr<LibxenStore>> open();

    ~LibxenStore() override;
    LibxenStore(const LibxenStore&) = delete;
    LibxenStore& operator=(const LibxenStore&) = delete;

    Result<std::optional<std::string>> read(const std::string& path) override;
    Result<std::optional<std::vector<std::string>>> list(const std::string& path) override;
    Result<bool> exists(const std::string& path) override;
    Result<void> write(const std::string& path, const std::string& value) override;
    Result<void> write_together(std::span<const StoreEntry> entries) override;
    Result<void> remove(const std::string& path) override;
    Result<void> watch(const std::string& path, const std::string& token) override;
    Result<void> unwatch(const std::string& path, const std::string& token) override;
    int fd() const override;
    Result<std::optional<StoreEvent>> next_event() override;

  private:
    explicit LibxenStore(xs_handle* handle) : handle_(handle) {}

    xs_handle* handle_;
};

}  // namespace vtpm::xen
