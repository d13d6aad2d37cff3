#include "contents.h"

#include <algorithm>
#include <cstring>

namespace vtpm::crash {
namespace {

bool all_zeros(ByteView data) {
    return data.empty() ||
           (data[0] == 0 && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

}  // namespace

Contents::Page& Contents::own(std::size_t page) {
    auto& place = pages_[page];
    if (!place)
        place = std::make_shared<Page>(page_size);
    else if (place.use_count() > 1)
        place = std::make_shared<Page>(*place);
    return *place;
}

void Contents::resize(std::size_t size, std::uint8_t fill) {
    const std::size_t before = size_;
    size_ = size;
    pages_.resize((size + page_size - 1) / page_size);
    if (size < before && size % page_size != 0 && pages_.back()) {
        Page& last = own(pages_.size() - 1);
        std::fill(last.begin() + static_cast<std::ptrdiff_t>(size % page_size), last.end(), 0);
    }
    if (size > before && fill != 0)
        write(before, Bytes(size - before, fill));
}

void Contents::write(std::size_t offset, ByteView data) {
    if (size_ < offset + data.size())
        resize(offset + data.size());
    while (!data.empty()) {
        const std::size_t page = offset / page_size;
        const std::size_t within = offset % page_size;
        const std::size_t size = std::min(page_size - within, data.size());
        const ByteView part = data.first(size);
        const bool whole = within == 0 && (size == page_size || offset + size == size_);
        if (all_zeros(part) && (whole || !pages_[page]))
            pages_[page].reset();
        else
            std::memcpy(own(page).data() + within, part.data(), size);
        offset += size;
        data = data.subspan(size);
    }
}

Bytes Contents::bytes() const {
    Bytes out(size_);
    for_each_page([&](std::size_t offset, ByteView page) {
        std::copy(page.begin(), page.end(), out.begin() + static_cast<std::ptrdiff_t>(offset));
    });
    return out;
}

bool Contents::operator==(const Contents& other) const {
    if (size_ != other.size_)
        return false;
    static const Page zeros(page_size);
    for (std::size_t n = 0; n < pages_.size(); ++n) {
        if (pages_[n] != other.pages_[n] &&
            (pages_[n] ? *pages_[n] : zeros) != (other.pages_[n] ? *other.pages_[n] : zeros))
            return false;
    }
    return true;
}

}  // namespace vtpm::crash
