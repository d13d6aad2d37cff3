// CancelWatcher: a second thread that looks for the guest's CANCEL while the first one is inside a
// command that can take long.
//
// The event channel has one reader at a time: while a Watch lives it is the watcher's, else the
// main thread's. A Watch's end waits until the watcher has let go, so that no event can fall
// between them; the main thread looks at the page before it polls again.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "vtpm/base/fd.h"
#include "vtpm/engine/engine.h"
#include "vtpm/xen/back_ring.h"

namespace vtpm::engine_program {

class CancelWatcher {
  public:
    // All must outlive the watcher. Starts the thread and waits until it runs, for a thread's start
    // in the C library makes calls that the system call filter kills: do this before the filter.
    CancelWatcher(const xen::BackRing& ring, xen::EventChannel& events);
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

    const xen::BackRing& ring_;
    xen::EventChannel& events_;
    Fd wake_;  // eventfd: a watch is over
    std::mutex mutex_;
    std::condition_variable changed_;
    Phase phase_ = Phase::starting;     // guarded by mutex_
    engine::Engine* engine_ = nullptr;  // set while watching
    std::thread thread_;
};

}  // namespace vtpm::engine_program
