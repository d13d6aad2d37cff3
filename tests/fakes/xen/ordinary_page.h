// OrdinaryPage: a ring page in ordinary memory, with the raw bytes for a test that is the guest.
#pragma once

#include <array>
#include <cstring>

#include "vtpm/xen/shared_page.h"

namespace vtpm::xen {

class OrdinaryPage {
  public:
    SharedPage page() { return SharedPage(bytes_.data()); }
    std::uint8_t* data() { return bytes_.data(); }

    tpmif::Header header() const {
        tpmif::Header header;
        std::memcpy(&header, bytes_.data(), sizeof header);
        return header;
    }
    void set_header(const tpmif::Header& header) {
        std::memcpy(bytes_.data(), &header, sizeof header);
    }
    MutableByteView packet() { return MutableByteView(bytes_).subspan(sizeof(tpmif::Header)); }

  private:
    alignas(tpmif::page_size) std::array<std::uint8_t, tpmif::page_size> bytes_{};
};

}  // namespace vtpm::xen
