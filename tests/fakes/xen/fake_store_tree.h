// FakeStoreTree: what xenstored holds, shared by any number of FakeStore connections. Nodes,
// watches with their events in order, special paths by fire(). No permissions, no quotas: a test
// that is the guest writes wherever it likes. Threads may share it.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace vtpm::xen {

class FakeStoreTree {
  public:
    using Deliver = std::function<void(const std::string& watched, const std::string& token,
                                       const std::string& path)>;

    static std::string absolute(const std::string& path) {
        if (path.starts_with("/") || path.starts_with("@"))
            return path;
        return "/local/domain/0/" + path;
    }

    std::optional<std::string> read(const std::string& path) {
        const std::lock_guard lock(mutex_);
        const auto found = nodes_.find(absolute(path));
        if (found != nodes_.end())
            return found->second;
        if (!names_below(absolute(path)).empty())
            return "";
        return std::nullopt;
    }

    std::vector<std::string> list(const std::string& path) {
        const std::lock_guard lock(mutex_);
        return names_below(absolute(path));
    }

    void write(const std::string& path, const std::string& value) {
        const std::lock_guard lock(mutex_);
        nodes_[absolute(path)] = value;
        fire_locked(absolute(path), false);
    }

    bool remove(const std::string& path) {
        const std::lock_guard lock(mutex_);
        const auto root = absolute(path);
        const auto erased =
            std::erase_if(nodes_, [&](const auto& node) { return is_within(node.first, root); });
        if (erased != 0)
            fire_locked(root, true);
        return erased != 0;
    }

    void fire(const std::string& special) {
        const std::lock_guard lock(mutex_);
        fire_locked(special, false);
    }

    void watch(const void* owner, const std::string& path, const std::string& token,
               Deliver deliver) {
        const std::lock_guard lock(mutex_);
        deliver(path, token, path);
        watches_.push_back({owner, path, token, std::move(deliver)});
    }

    bool unwatch(const void* owner, const std::string& path, const std::string& token) {
        const std::lock_guard lock(mutex_);
        return std::erase_if(watches_, [&](const Watch& watch) {
                   return watch.owner == owner && watch.path == path && watch.token == token;
               }) != 0;
    }

    void forget(const void* owner) {
        const std::lock_guard lock(mutex_);
        std::erase_if(watches_, [&](const Watch& watch) { return watch.owner == owner; });
    }

  private:
    struct Watch {
        const void* owner;
        std::string path;
        std::string token;
        Deliver deliver;
    };

    static bool is_within(const std::string& path, const std::string& root) {
        return path == root || path.starts_with(root + "/");
    }

    // A removed directory also rings for those who watch something inside it.
    void fire_locked(const std::string& path, bool removed) {
        for (const auto& watch : watches_) {
            const auto watched = absolute(watch.path);
            if (is_within(path, watched)) {
                watch.deliver(watch.path, watch.token, path);
            } else if (removed && is_within(watched, path)) {
                watch.deliver(watch.path, watch.token, watched);
            }
        }
    }

    std::vector<std::string> names_below(const std::string& directory) const {
        std::vector<std::string> names;
        for (const auto& [path, value] : nodes_) {
            if (!path.starts_with(directory + "/"))
                continue;
            auto name = path.substr(directory.size() + 1);
            name = name.substr(0, name.find('/'));
            if (names.empty() || names.back() != name)
                names.push_back(name);
        }
        return names;
    }

    std::mutex mutex_;
    std::map<std::string, std::string> nodes_;
    std::vector<Watch> watches_;
};

}  // namespace vtpm::xen
