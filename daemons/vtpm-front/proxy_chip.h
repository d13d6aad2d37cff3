// ProxyChip: a TPM 2.0 of this kernel whose commands come to us: /dev/vtpmx, linux/vtpm_proxy.h,
// Documentation/security/tpm/tpm_vtpm_proxy.rst. /dev/tpmN and /dev/tpmrmN are there as long as
// somebody has its descriptor. One thread.
#pragma once

#include <cstdint>
#include <string>

#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::front {

class ProxyChip {
  public:
    static constexpr std::size_t max_message = 4096;  // of the kernel's buffer, bytes

    // A new one. The kernel begins to send commands at once. Needs CAP_SYS_ADMIN.
    static Result<ProxyChip> make();
    // One that another process made. A command that it took and did not answer is answered as
    // cancelled, so that nobody waits for it.
    static ProxyChip adopt(Fd descriptor);

    int fd() const { return fd_.get(); }

    // Programs can find it: the kernel has had the answers that it asks for first. One that was
    // adopted counts as found.
    bool registered() const;

    // There is a command to take. Errc::unavailable: the kernel has given the chip up.
    Result<bool> asks() const;
    // The command, at most max_message bytes. Call it when asks().
    Result<SecretBytes> take();
    // The answer to what was taken last. The kernel may have stopped waiting: no error.
    Result<void> answer(ByteView response);

  private:
    explicit ProxyChip(Fd descriptor) : fd_(std::move(descriptor)) {}

    Fd fd_;
    std::string device_;  // of its resource manager; empty: not known
};

}  // namespace vtpm::front
