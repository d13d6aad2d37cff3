#include "vtpm/xen/mapped_page.h"

#include <utility>

namespace vtpm::xen {

MappedPage::MappedPage(void* memory, Unmap unmap) : memory_(memory), unmap_(std::move(unmap)) {}

MappedPage::MappedPage(MappedPage&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), unmap_(std::move(other.unmap_)) {}

MappedPage& MappedPage::operator=(MappedPage&& other) noexcept {
    MappedPage taken(std::move(other));
    std::swap(memory_, taken.memory_);
    std::swap(unmap_, taken.unmap_);
    return *this;
}

MappedPage::~MappedPage() {
    if (memory_ != nullptr)
        unmap_(memory_);
}

}  // namespace vtpm::xen
