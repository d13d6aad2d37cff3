#include "vtpm/xen/shared_page.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

namespace vtpm::xen {

namespace {

constexpr std::size_t word_size = sizeof(std::uint64_t);
static_assert(sizeof(tpmif::Header) == word_size);
static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic_ref<std::uint8_t>::is_always_lock_free);

template <typename T>
std::atomic_ref<T> at(std::uint8_t* address) {
    return std::atomic_ref<T>(*reinterpret_cast<T*>(address));
}

bool word_fits(const std::uint8_t* address, std::size_t left) {
    return left >= word_size && std::bit_cast<std::uintptr_t>(address) % word_size == 0;
}

// Between the state byte and the event: the peer that the event wakes must see the state.
void full_barrier() {
#ifndef __SANITIZE_THREAD__  // which has no model of fences and refuses them
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// How much of `wanted` bytes at `offset` after the header is on the page.
std::size_t within_page(std::size_t offset, std::size_t wanted) {
    if (offset >= tpmif::max_packet)
        return 0;
    return std::min(wanted, tpmif::max_packet - offset);
}

}  // namespace

SharedPage::SharedPage(void* memory) : bytes_(static_cast<std::uint8_t*>(memory)) {}

tpmif::Header SharedPage::header() const {
    return std::bit_cast<tpmif::Header>(at<std::uint64_t>(bytes_).load(std::memory_order_acquire));
}

std::uint8_t SharedPage::state() const {
    return at<std::uint8_t>(bytes_ + offsetof(tpmif::Header, state))
        .load(std::memory_order_acquire);
}

void SharedPage::publish(std::uint8_t state) {
    at<std::uint8_t>(bytes_ + offsetof(tpmif::Header, state))
        .store(state, std::memory_order_release);
    full_barrier();
}

bool SharedPage::replace_state(std::uint8_t expected, std::uint8_t desired) {
    const bool replaced = at<std::uint8_t>(bytes_ + offsetof(tpmif::Header, state))
                              .compare_exchange_strong(expected, desired);
    full_barrier();
    return replaced;
}

void SharedPage::set_length(std::uint32_t length) {
    at<std::uint32_t>(bytes_ + offsetof(tpmif::Header, length))
        .store(length, std::memory_order_relaxed);
}

void SharedPage::set_locality(std::uint8_t locality) {
    at<std::uint8_t>(bytes_ + offsetof(tpmif::Header, locality))
        .store(locality, std::memory_order_relaxed);
}

std::size_t SharedPage::copy_in(std::size_t offset, MutableByteView destination) const {
    const auto size = within_page(offset, destination.size());
    std::uint8_t* const packet = bytes_ + sizeof(tpmif::Header) + offset;
    for (std::size_t done = 0; done < size;) {
        if (word_fits(packet + done, size - done)) {
            const auto word = at<std::uint64_t>(packet + done).load(std::memory_order_relaxed);
            std::memcpy(destination.data() + done, &word, word_size);
            done += word_size;
        } else {
            destination[done] = at<std::uint8_t>(packet + done).load(std::memory_order_relaxed);
            ++done;
        }
    }
    return size;
}

std::size_t SharedPage::copy_out(std::size_t offset, ByteView source) {
    const auto size = within_page(offset, source.size());
    std::uint8_t* const packet = bytes_ + sizeof(tpmif::Header) + offset;
    for (std::size_t done = 0; done < size;) {
        if (word_fits(packet + done, size - done)) {
            std::uint64_t word = 0;
            std::memcpy(&word, source.data() + done, word_size);
            at<std::uint64_t>(packet + done).store(word, std::memory_order_relaxed);
            done += word_size;
        } else {
            at<std::uint8_t>(packet + done).store(source[done], std::memory_order_relaxed);
            ++done;
        }
    }
    return size;
}

void SharedPage::wipe_packet() {
    for (std::size_t at_word = sizeof(tpmif::Header); at_word < tpmif::page_size;
         at_word += word_size) {
        at<std::uint64_t>(bytes_ + at_word).store(0, std::memory_order_relaxed);
    }
}

}  // namespace vtpm::xen
