// vtpmctl list --watch: the table of TPMs, again and again.
//
// On a terminal it is painted over; elsewhere, what has changed is appended, with --json one object
// a line. Ends when it is interrupted or nobody reads any more. A manager that goes away is waited
// for, and said so once.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "commands.h"

namespace vtpm::control {

// What has changed between two lists, as lines of a table or objects.
class Changes {
  public:
    // `json`: one object a line.
    explicit Changes(bool json) : json_(json) {}
    // The lines to append, each with its end; the first time all there are.
    std::string next(const std::vector<wire::proto::Instance>& instances);

  private:
    bool json_;
    bool first_ = true;
    std::map<std::string, std::pair<std::string, std::string>> known_;  // uuid: name, line
};

struct WatchOptions {
    bool watch = false;
    unsigned seconds = 2;  // between two looks
    std::string socket;
    // For tests: false ends it. Else it waits between two looks.
    std::function<bool()> wait;
};

Result<void> watch(ManagerConnection& manager, const WatchOptions& options, Output output);

}  // namespace vtpm::control
