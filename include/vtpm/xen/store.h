// Store: one connection to xenstore. A contract; LibxenStore is the real one.
//
// Paths are absolute, or relative to the own domain's home (in dom0: /local/domain/0/). Values are
// at most 4096 bytes (XENSTORE_PAYLOAD_MAX) and come from whoever may write the node: parse them.
// An event says only that something at or below a watched path may have changed; an event for a
// change is there to be taken as soon as a read has returned that change (xenstored answers one
// connection in order). Used on one thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vtpm/base/result.h"

namespace vtpm::xen {

struct StoreEvent {
    std::string path;
    std::string token;
};

struct StoreEntry {
    std::string path;
    std::string value;
};

class Store {
  public:
    virtual ~Store() = default;

    virtual Result<std::optional<std::string>> read(const std::string& path) = 0;
    virtual Result<std::optional<std::vector<std::string>>> list(const std::string& path) = 0;
    virtual Result<bool> exists(const std::string& path) = 0;

    virtual Result<void> write(const std::string& path, const std::string& value) = 0;
    // All of them or none, in one transaction.
    virtual Result<void> write_together(std::span<const StoreEntry> entries) = 0;
    virtual Result<void> remove(const std::string& path) = 0;  // that it is not there is no error

    // A new watch gives one event at once. `path` may be @releaseDomain or @introduceDomain.
    virtual Result<void> watch(const std::string& path, const std::string& token) = 0;
    virtual Result<void> unwatch(const std::string& path, const std::string& token) = 0;

    // Readable when there are events. Take events until there are none: it need not stay readable.
    virtual int fd() const = 0;
    virtual Result<std::optional<StoreEvent>> next_event() = 0;  // never blocks
};

}  // namespace vtpm::xen
