// Fd: the one owner of a file descriptor. Move-only; assigning closes the old one.
#pragma once

#include <utility>

#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"

namespace vtpm {

class Fd {
  public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}  // takes ownership; -1 is "none"
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept;
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { reset(); }

    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset();

    Result<Fd> duplicate() const;  // close-on-exec

  private:
    int fd_ = -1;
};

struct FdPair {
    Fd first;
    Fd second;
};

// A connected pair of close-on-exec UNIX stream sockets.
Result<FdPair> stream_socket_pair();

// Whole-buffer input and output on a blocking descriptor; EINTR is retried.
Result<void> write_all(int fd, ByteView bytes);
// Exactly bytes.size() bytes, or Errc::unavailable if the other side closed first.
Result<void> read_exactly(int fd, MutableByteView bytes);

// The whole of a small regular file; Errc::too_large beyond `limit` bytes.
Result<Bytes> read_file(const char* path, std::size_t limit);

}  // namespace vtpm
