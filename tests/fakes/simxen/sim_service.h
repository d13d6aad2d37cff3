// SimService: what systemd does for a service that is restarted: takes what it puts into its
// descriptor store (FDSTORE=1 of sd_notify(3)) and passes it to the next process
// (sd_listen_fds(3)). The store is served on a thread of its own; everything else belongs to one
// thread.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fakes/simxen/child.h"
#include "vtpm/base/fd.h"

namespace vtpm::fakes {

class SimService {
  public:
    explicit SimService(std::filesystem::path socket);
    SimService(const SimService&) = delete;
    SimService& operator=(const SimService&) = delete;
    ~SimService();

    // Waits until all that earlier processes have said is heard.
    std::unique_ptr<Child> start(const std::vector<std::string>& words,
                                 std::vector<std::string> environment);
    // Whether the process that was started last says READY=1 within 10 s.
    bool ready();
    // As "systemctl stop" does when the last process has ended.
    void forget();
    std::vector<std::string> names();  // of what is kept, one a descriptor

  private:
    struct Kept {
        std::string name;
        Fd fd;
    };
    void serve();
    bool take_message();
    void say(const std::string& text);
    void settle();

    std::filesystem::path path_;
    Fd socket_;
    std::mutex mutex_;
    std::condition_variable settled_;
    bool ready_ = false;
    unsigned asked_ = 0;
    unsigned answered_ = 0;
    std::vector<Kept> kept_;
    std::thread thread_;
};

}  // namespace vtpm::fakes
