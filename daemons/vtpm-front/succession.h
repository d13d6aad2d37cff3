// How the proxy TPM gets from one vtpm-front to the next without the kernel's noticing: from that
// of the initramfs to that of the real root, or to one that an administrator starts by hand. (After
// a restart by systemd it is in the unit's descriptor store instead.) A UNIX socket in a directory
// of root's; one descriptor and a byte each way:
//
//   heir connects; the holder lets the ring go, sends the chip's descriptor and waits;
//   heir connects to the back end and sends a byte; the holder ends. If the byte does not come,
//   the holder goes on as before: it still has its descriptor.
//
// One thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "vtpm/base/fd.h"

namespace vtpm::front {

// The holder's end.
class Testator {
  public:
    // In the place of the one before, who has let us inherit or is no more. At most 107 bytes.
    static Result<Testator> listen(const std::string& path);

    int fd() const { return listener_.get(); }  // readable: somebody is there

    // Who is there, and is root; none: it went away, or was somebody else.
    Result<std::optional<Fd>> accept();

  private:
    explicit Testator(Fd listener) : listener_(std::move(listener)) {}

    Fd listener_;
};

// Gives the descriptor to the heir; true: it says that it serves.
Result<bool> bequeath(const Fd& heir, int descriptor, std::chrono::milliseconds patience);

// The heir's end.
struct Inheritance {
    Fd chip;
    Fd holder;  // send a byte when the chip is served
};
// Nothing: nobody has a chip.
Result<std::optional<Inheritance>> inherit(const std::string& path,
                                           std::chrono::milliseconds patience);
Result<void> confirm(const Inheritance& inheritance);

}  // namespace vtpm::front
