// SharedCount: a number on a page of two processes. One adds to it, the other looks, which costs
// neither a system call.
//
// Any thread. What was written before add() is seen by who saw the new value.
#pragma once

#include <atomic>
#include <cstdint>

#include "vtpm/base/fd.h"

namespace vtpm {

class SharedCount {
  public:
    static Result<SharedCount> create();  // at zero, to be added to
    // Another's, to be looked at. Errc::malformed: it is none, or could be taken away meanwhile.
    static Result<SharedCount> watch(Fd fd);

    SharedCount(SharedCount&& other) noexcept
        : fd_(std::move(other.fd_)), value_(std::exchange(other.value_, nullptr)) {}
    SharedCount& operator=(SharedCount&&) = delete;
    SharedCount(const SharedCount&) = delete;
    SharedCount& operator=(const SharedCount&) = delete;
    ~SharedCount();

    void add() { value_->fetch_add(1, std::memory_order_release); }  // of one's own only
    std::uint64_t value() const { return value_->load(std::memory_order_acquire); }
    int fd() const { return fd_.get(); }  // to be given to who watches; -1 with who does

  private:
    using Value = std::atomic<std::uint64_t>;
    static_assert(Value::is_always_lock_free);  // or it would be no use between processes

    SharedCount(Fd fd, Value* value) : fd_(std::move(fd)), value_(value) {}
    static Result<Value*> map(int fd, int protection);

    Fd fd_;
    Value* value_;
};

}  // namespace vtpm
