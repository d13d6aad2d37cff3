// A chip and the bus to it: libtpms, and somebody who may change, exchange, replay and refuse its
// answers.
#pragma once

#include <tss2/tss2_tcti.h>

#include <array>
#include <cstring>

#include "honest_chip.h"
#include "input.h"

namespace vtpm::fuzz {

// The TPM, and the bus to it.
class Bus {
  public:
    static inline Bus* the_bus = nullptr;

    // A TPM with this state; without one, a new TPM.
    Bus() {
        the_bus = this;
        must(tpm_.power_on({tpm::Version::v2_0, true, {}, {}, {}}).has_value(), "no TPM is made");
    }
    explicit Bus(const Snapshot& snapshot) {
        the_bus = this;
        must(tpm_.power_on(gone_on(tpm::Version::v2_0, snapshot)).has_value(),
             "the TPM does not start");
    }
    ~Bus() { the_bus = nullptr; }
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;

    Snapshot snapshot() { return snapshot_of(tpm_); }

    Input* meddler = nullptr;  // null: the answers are the chip's own

    TSS2_RC transmit(ByteView command) {
        if (meddled(0xfe))
            return TSS2_TCTI_RC_IO_ERROR;
        std::array<std::uint8_t, 4096> answer{};
        const std::size_t size = tpm_.execute(command, 0, answer);
        answer_.assign(answer.begin(), answer.begin() + static_cast<std::ptrdiff_t>(size));
        if (meddled(0xe4))
            meddle();
        last_ = answer_;
        return TSS2_RC_SUCCESS;
    }
    TSS2_RC receive(std::size_t* size, std::uint8_t* to) {
        if (meddled(0xfe))
            return TSS2_TCTI_RC_IO_ERROR;
        const std::size_t room = *size;
        *size = answer_.size();
        if (to == nullptr)
            return TSS2_RC_SUCCESS;
        if (room < answer_.size())
            return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
        std::memcpy(to, answer_.data(), answer_.size());
        return TSS2_RC_SUCCESS;
    }

  private:
    bool meddled(std::uint8_t above) { return meddler != nullptr && meddler->u8() > above; }
    void meddle() {
        constexpr std::array<std::uint32_t, 14> codes = {0x922, 0x908, 0x90a, 0x18b, 0x148,
                                                         0x14a, 0x184, 0x98e, 0x921, 0x920,
                                                         0x101, 0x100, 0,     0x155};
        switch (meddler->pick(4)) {
            case 0:
                answer_ = ByteWriter().u16(0x8001).u32(10).u32(meddler->one_of(codes)).take();
                return;
            case 1:
                std::swap(answer_, last_);
                return;
            case 2:  // one bit of what follows the header
                if (answer_.size() > 10)
                    answer_[10 + meddler->u16() % (answer_.size() - 10)] ^=
                        static_cast<std::uint8_t>(1U << (meddler->u8() % 8));
                return;
            default:
                answer_ = meddler->changed(answer_);
                // A size that is right leads further in.
                for (std::size_t i = 0; i < 4 && answer_.size() >= 10 && meddler->flag(); ++i)
                    answer_[2 + i] = static_cast<std::uint8_t>(answer_.size() >> (24 - 8 * i));
        }
    }

    engine::LibtpmsEngine tpm_;
    Bytes answer_;
    Bytes last_ = Bytes(10);
};

}  // namespace vtpm::fuzz
