// SecretBytes: a byte string that is wiped before its memory goes back to the allocator.
//
// Move-only, so that no copy is made unnoticed; clone() is the one visible way. The buffer never
// grows in place (a reallocation would leave the old bytes behind). That the pages are not swapped
// and not dumped is the process's business: see lock_down_memory() in jail/harden.h, which every
// program that holds secrets calls before its first one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "vtpm/base/bytes.h"

namespace vtpm {

// Overwrites memory in a way that the optimiser keeps: for what is not a SecretBytes, such as
// another library's buffers.
void wipe(MutableByteView bytes);

class SecretBytes {
  public:
    SecretBytes() = default;
    explicit SecretBytes(std::size_t size);  // zero-filled
    static SecretBytes copy_of(ByteView bytes);

    SecretBytes(SecretBytes&& other) noexcept;
    SecretBytes& operator=(SecretBytes&& other) noexcept;
    SecretBytes(const SecretBytes&) = delete;
    SecretBytes& operator=(const SecretBytes&) = delete;
    ~SecretBytes();

    SecretBytes clone() const { return copy_of(view()); }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    ByteView view() const { return {data_.get(), size_}; }
    MutableByteView span() { return {data_.get(), size_}; }

    // Keeps the first `size` bytes (no more than size()) and wipes the rest.
    void shrink(std::size_t size);

  private:
    void wipe_all();

    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

}  // namespace vtpm
