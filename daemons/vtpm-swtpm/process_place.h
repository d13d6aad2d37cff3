// Where swtpm's callers want a process to be: in the background, with a log and a file of its pid.
#pragma once

#include "options.h"

namespace vtpm::swtpm {

// Standard error becomes the log that was named.
Result<void> redirect_log(const Options& options);

// Before any thread. Returns in the child; the parent ends with success once ready() has been
// called, or else as the child ends.
class Background {
  public:
    static Result<Background> enter();

    void ready();

  private:
    explicit Background(Fd writer) : writer_(std::move(writer)) {}

    Fd writer_;  // closed without a word: it was not ready
};

Result<void> write_pid(const Options& options);

}  // namespace vtpm::swtpm
