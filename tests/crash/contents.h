// Contents: what a file holds. Copies share its pages, and a page of zeros is none at all, so that
// an image of a disk costs what is in it and not what its files' lengths say.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "vtpm/base/bytes.h"

namespace vtpm::crash {

class Contents {
  public:
    Contents() = default;
    explicit Contents(ByteView bytes) { write(0, bytes); }

    std::size_t size() const { return size_; }
    // What is new has this value.
    void resize(std::size_t size, std::uint8_t fill = 0);
    // Makes it longer if need be.
    void write(std::size_t offset, ByteView data);

    Bytes bytes() const;
    bool operator==(const Contents& other) const;
    // what(offset, bytes) for all that is not in a page of zeros.
    template <typename What>
    void for_each_page(const What& what) const {
        for (std::size_t n = 0; n < pages_.size(); ++n) {
            if (pages_[n])
                what(n * page_size, ByteView(*pages_[n]).first(used_of(n)));
        }
    }

  private:
    static constexpr std::size_t page_size = 4096;
    using Page = std::vector<std::uint8_t>;  // all of page_size; zeros beyond the end

    std::size_t used_of(std::size_t page) const {
        return std::min(page_size, size_ - page * page_size);
    }
    Page& own(std::size_t page);

    std::size_t size_ = 0;
    std::vector<std::shared_ptr<Page>> pages_;
};

}  // namespace vtpm::crash
