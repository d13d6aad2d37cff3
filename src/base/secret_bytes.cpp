#include "vtpm/base/secret_bytes.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

namespace vtpm {

void wipe(MutableByteView bytes) {
    OPENSSL_cleanse(bytes.data(), bytes.size());
}

SecretBytes::SecretBytes(std::size_t size)
    : data_(std::make_unique<std::uint8_t[]>(size)), size_(size), capacity_(size) {}

SecretBytes SecretBytes::copy_of(ByteView bytes) {
    SecretBytes copy(bytes.size());
    std::copy(bytes.begin(), bytes.end(), copy.data_.get());
    return copy;
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::move(other.data_)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
    SecretBytes taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    std::swap(capacity_, taken.capacity_);
    return *this;
}

SecretBytes::~SecretBytes() {
    wipe_all();
}

void SecretBytes::shrink(std::size_t size) {
    if (size >= size_)
        return;
    OPENSSL_cleanse(data_.get() + size, size_ - size);
    size_ = size;
}

// Wipes the capacity, not the size: shrink() must not be a way to leave bytes behind.
void SecretBytes::wipe_all() {
    if (data_)
        OPENSSL_cleanse(data_.get(), capacity_);
}

}  // namespace vtpm
