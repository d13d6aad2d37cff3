// FakeStore: one connection to a FakeStoreTree. Can fail the nth call from now, remembers what was
// written through it, and lets a test act in the middle of a read.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <mutex>

#include "fakes/xen/fake_store_tree.h"
#include "vtpm/base/fd.h"
#include "vtpm/xen/store.h"

namespace vtpm::xen {

class FakeStore final : public Store {
  public:
    explicit FakeStore(FakeStoreTree& tree)
        : tree_(tree), event_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
    ~FakeStore() override { tree_.forget(this); }

    // 1 is the next call; 0 is never. next_event() counts too.
    void fail_call(unsigned nth) { fail_in_ = nth; }
    bool failure_is_due() const { return fail_in_ != 0; }
    const std::vector<StoreEntry>& written() const { return written_; }
    unsigned calls() const { return calls_; }
    // Called with the path after each read has been answered.
    std::function<void(const std::string&)> after_read;

    Result<std::optional<std::string>> read(const std::string& path) override {
        VTPM_CHECK(count());
        auto value = tree_.read(path);
        if (after_read)
            after_read(path);
        return value;
    }
    Result<std::optional<std::vector<std::string>>> list(const std::string& path) override {
        VTPM_CHECK(count());
        if (!tree_.read(path))
            return std::optional<std::vector<std::string>>();
        return tree_.list(path);
    }
    Result<bool> exists(const std::string& path) override {
        VTPM_CHECK(count());
        return tree_.read(path).has_value();
    }
    Result<void> write(const std::string& path, const std::string& value) override {
        VTPM_CHECK(count());
        written_.push_back({path, value});
        tree_.write(path, value);
        return {};
    }
    Result<void> write_together(std::span<const StoreEntry> entries) override {
        VTPM_CHECK(count());
        for (const auto& entry : entries) {
            written_.push_back(entry);
            tree_.write(entry.path, entry.value);
        }
        return {};
    }
    Result<void> remove(const std::string& path) override {
        VTPM_CHECK(count());
        tree_.remove(path);
        return {};
    }
    Result<void> watch(const std::string& path, const std::string& token) override {
        VTPM_CHECK(count());
        tree_.watch(this, path, token,
                    [this](const std::string&, const std::string& of, const std::string& at) {
                        deliver({at, of});
                    });
        return {};
    }
    Result<void> unwatch(const std::string& path, const std::string& token) override {
        VTPM_CHECK(count());
        if (!tree_.unwatch(this, path, token))
            return fail(Errc::not_found, "no such watch");
        return {};
    }
    int fd() const override { return event_fd_.get(); }
    Result<std::optional<StoreEvent>> next_event() override {
        VTPM_CHECK(count());
        const std::lock_guard lock(mutex_);
        eventfd_t ignored = 0;
        ::eventfd_read(event_fd_.get(), &ignored);
        if (events_.empty())
            return std::optional<StoreEvent>();
        auto event = std::move(events_.front());
        events_.pop_front();
        if (!events_.empty())
            ::eventfd_write(event_fd_.get(), 1);
        return event;
    }

  private:
    Result<void> count() {
        ++calls_;
        if (fail_in_ != 0 && --fail_in_ == 0)
            return fail(Errc::io, "the fake store says no");
        return {};
    }
    void deliver(StoreEvent event) {
        const std::lock_guard lock(mutex_);
        events_.push_back(std::move(event));
        ::eventfd_write(event_fd_.get(), 1);
    }

    FakeStoreTree& tree_;
    Fd event_fd_;
    unsigned fail_in_ = 0;
    unsigned calls_ = 0;
    std::vector<StoreEntry> written_;
    std::mutex mutex_;
    std::deque<StoreEvent> events_;
};

}  // namespace vtpm::xen
