// A process that goes on without its parent, which waits until the process is of use: for scripts
// of an initramfs, where nothing supervises it. Call it before the first thread.
#pragma once

#include "vtpm/base/fd.h"

namespace vtpm::front {

class Background {
  public:
    Background() = default;
    // Returns in the child. The parent ends: successfully when the child is ready, and else when
    // and as the child ends.
    static Result<Background> enter();

    void ready();

  private:
    Fd parent_;
};

}  // namespace vtpm::front
