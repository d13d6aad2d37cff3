// CancelWatcher: a second thread that looks for the guest's CANCEL while the first one is inside a
// command that can take long.
//
// The event channel has one reader at a time: while a Watch lives it is the watcher's, else the
// main thread's. A Watch's end waits until the watcher has let go, so that no event can fall
// between them; the main thread looks at the page before it polls again.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "vtpm/base/fd.h"
#include "vtpm/engine/engine.h"
#include "vtpm/xen/back_ring.h"

namespace vtpm::engine_program {

class CancelWatcher {
  public:
    // Where the guest's wish comes from.
    class Source {
      public:
        virtual ~Source() = default;
        virtual int fd() const = 0;          // readable: look again
        virtual Result<void> consume() = 0;  // takes what made it readable
        virtual bool cancel_requested() const = 0;
    };

    // A ring's page and its bell; both must outlive the watcher.
    CancelWatcher(const xen::BackRing& ring, xen::EventChannel& events);
    // Starts the thread and waits until it runs, for a thread's start in the C library makes calls
    // that the system call filter kills: do this before the filter.
    explicit CancelWatcher(std::unique_ptr<Source> source);
    ~CancelWatcher();
    CancelWatcher(const CancelWatcher&) = delete;
    CancelWatcher& operator=(const CancelWatcher&) = delete;

    // While it lives, a CANCEL on the page reaches engine.cancel().
    class Watch {
      public:
        Watch(CancelWatcher& watcher, engine::Engine& engine);
        ~Watch();
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;

      private:
        CancelWatcher& watcher_;
    };

  private:
    enum class Phase { starting, idle, watching, leaving, ended };

    void run();
    void watch();
    void wake() const;

    std::unique_ptr<Source> source_;
    Fd wake_;  // eventfd: a watch is over
    std::mutex mutex_;
    std::condition_variable changed_;
    Phase phase_ = Phase::starting;     // guarded by mutex_
    engine::Engine* engine_ = nullptr;  // set while watching
    std::thread thread_;
};

}  // namespace vtpm::engine_program
