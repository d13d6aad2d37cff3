// Tpm12Link: the bytes to and from a TPM 1.2, behind the kernel's device or a swtpm's socket.
//
// Private to the chip room. One thread. After an error it is of no more use: an answer that comes
// late must not be taken for that of the next command.
#pragma once

#include <string>

#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::chip::tpm12 {

class Tpm12Link {
  public:
    // TPM_TIS: what every chip takes and gives is smaller.
    static constexpr std::size_t max_message = 4096;
    static constexpr std::size_t header_size = 10;

    // "device:/dev/tpm0" or "swtpm:path=/run/x/sock". Errc as EsysChip::open().
    static Result<Tpm12Link> open(const std::string& tcti);

    // A whole answer: at least a header, and as long as that says. Errc::unavailable, malformed.
    Result<SecretBytes> exchange(ByteView command);

  private:
    explicit Tpm12Link(Fd fd) : fd_(std::move(fd)) {}

    Fd fd_;
};

}  // namespace vtpm::chip::tpm12
