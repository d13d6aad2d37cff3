// Where a process that was started as swtpm is, and what it leaves behind: its environment, log,
// pid and sockets, in the background or not.
#pragma once

#include "options.h"

namespace vtpm::swtpm {

// Standard error becomes the log that was named. Call before any thread, as it changes the
// environment: who started us is not the journal, and not told that we are ready.
Result<void> take_place(const Options& options);

// Before any thread. Returns in the child; the parent ends with success once ready() has been
// called, or else as the child ends.
class Background {
  public:
    static Result<Background> enter();

    // `keeps_error`: standard error is a log, not the terminal or pipe of who started us.
    void ready(bool keeps_error);

  private:
    Background(Fd writer, Fd null) : writer_(std::move(writer)), null_(std::move(null)) {}

    Fd writer_;  // closed without a word: it was not ready
    Fd null_;
};

Result<void> write_pid(const Options& options);

// The file that is at this path now is removed when the process ends, unless it is another by then.
void remove_at_exit(const std::string& path);

}  // namespace vtpm::swtpm
