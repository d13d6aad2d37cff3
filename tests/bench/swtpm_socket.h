// The data socket of a swtpm, blocking: what QEMU's or libvirt's user pays without QEMU.
#pragma once

#include "fakes/chip/swtpm.h"

namespace vtpm::bench {

class SwtpmSocket {
  public:
    explicit SwtpmSocket(const fakes::Swtpm& swtpm) : fd_(fakes::connect_to(swtpm.socket())) {}

    Bytes transmit(ByteView command) const {
        Bytes answer(4096);
        if (!write_all(fd_.get(), command))
            return {};
        const auto size = ::read(fd_.get(), answer.data(), answer.size());
        answer.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return answer;
    }

  private:
    Fd fd_;
};

}  // namespace vtpm::bench
