#include "cancel_watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <system_error>

#include "empty_events.h"

namespace vtpm::engine_program {
namespace {

class RingSource : public CancelWatcher::Source {
  public:
    RingSource(const xen::BackRing& ring, xen::EventChannel& events)
        : ring_(ring), events_(events) {}
    int fd() const override { return events_.fd(); }
    Result<void> consume() override { return events_.consume(); }
    bool cancel_requested() const override { return ring_.cancel_requested(); }

  private:
    const xen::BackRing& ring_;
    xen::EventChannel& events_;
};

// RLIMIT_NPROC counts an engine of the same uid, whose front was killed, until it has ended.
std::thread thread_of(const std::function<void()>& run) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    for (;;) {
        try {
            return std::thread(run);
        } catch (const std::system_error& error) {
            if (error.code() != std::errc::resource_unavailable_try_again ||
                std::chrono::steady_clock::now() > end)
                throw;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
}

}  // namespace

CancelWatcher::CancelWatcher(const xen::BackRing& ring, xen::EventChannel& events)
    : CancelWatcher(std::make_unique<RingSource>(ring, events)) {}

CancelWatcher::CancelWatcher(std::unique_ptr<Source> source)
    : source_(std::move(source)), wake_(::eventfd(0, EFD_CLOEXEC)) {
    if (!wake_.valid())
        throw std::runtime_error("eventfd failed");
    thread_ = thread_of([this] { run(); });
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return phase_ != Phase::starting; });
}

CancelWatcher::~CancelWatcher() {
    {
        const std::lock_guard lock(mutex_);
        phase_ = Phase::ended;
    }
    changed_.notify_all();
    thread_.join();
}

CancelWatcher::Watch::Watch(CancelWatcher& watcher, engine::Engine& engine) : watcher_(watcher) {
    {
        const std::lock_guard lock(watcher_.mutex_);
        watcher_.engine_ = &engine;
        watcher_.phase_ = Phase::watching;
    }
    watcher_.changed_.notify_all();
}

CancelWatcher::Watch::~Watch() {
    std::unique_lock lock(watcher_.mutex_);
    watcher_.phase_ = Phase::leaving;
    watcher_.wake();
    watcher_.changed_.notify_all();
    watcher_.changed_.wait(lock, [this] { return watcher_.phase_ == Phase::idle; });
}

void CancelWatcher::run() {
    std::unique_lock lock(mutex_);
    phase_ = Phase::idle;
    changed_.notify_all();
    while (phase_ != Phase::ended) {
        changed_.wait(lock, [this] { return phase_ != Phase::idle; });
        if (phase_ == Phase::watching) {
            lock.unlock();
            watch();
            lock.lock();
            // A watch that broke off early must not be begun again.
            changed_.wait(lock, [this] { return phase_ != Phase::watching; });
        }
        if (phase_ != Phase::leaving)
            continue;
        std::uint64_t count = 0;
        // Takes back the wake-up of this watch; it was written before the phase changed.
        (void)!::read(wake_.get(), &count, sizeof(count));
        phase_ = Phase::idle;
        changed_.notify_all();
    }
}

// Until the wake-up. An event that is no CANCEL is only an early look at what the main thread will
// see on the page by itself; after one the bell is not heard for a moment, see EmptyEvents.
void CancelWatcher::watch() {
    std::array<pollfd, 2> wanted = {pollfd{wake_.get(), POLLIN, 0},
                                    pollfd{source_->fd(), POLLIN, 0}};
    bool deaf = false;
    for (;;) {
        if (source_->cancel_requested())
            engine_->cancel();
        const nfds_t count = deaf ? 1 : wanted.size();
        const int milliseconds = deaf ? static_cast<int>(EmptyEvents::pause.count()) : -1;
        wanted[1].revents = 0;
        if (::poll(wanted.data(), count, milliseconds) < 0 && errno != EINTR)
            return;
        deaf = false;
        if (wanted[0].revents != 0)
            return;
        if (wanted[1].revents == 0)
            continue;
        if ((wanted[1].revents & POLLIN) == 0 || !source_->consume())
            return;
        deaf = true;
    }
}

void CancelWatcher::wake() const {
    const std::uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof(one));
}

}  // namespace vtpm::engine_program
