// Child: a process of ours, killed and reaped at the latest when this ends. One thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace vtpm::fakes {

class Child {
  public:
    // `environment` is added to ours: "NAME=value". `descriptors` are its 3 and those after it.
    // Throws if the program cannot be started.
    explicit Child(const std::vector<std::string>& words,
                   const std::vector<std::string>& environment = {},
                   const std::vector<int>& descriptors = {});
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() { kill(); }

    pid_t pid() const { return pid_; }
    bool running();
    void terminate();  // SIGTERM
    void kill();       // SIGKILL
    // What waitpid gave; nothing if it still runs then.
    std::optional<int> wait(std::chrono::milliseconds time);

  private:
    pid_t pid_ = -1;
    std::optional<int> status_;
};

// A process's own children that have not been reaped, by /proc.
std::vector<pid_t> children_of(pid_t pid);

}  // namespace vtpm::fakes
