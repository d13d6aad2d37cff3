// ChipRelay: carries the commands of the kernel's proxy TPM over the ring to the back end, one at
// a time, and the answers back; connects anew when the domain was resumed or the back end begins
// again. One thread.
//
// A command is never sent twice: what was on the ring when the connection went, and has left no
// answer there, is answered as cancelled.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>

#include "proxy_chip.h"
#include "succession.h"
#include "vtpm/tpm/message.h"
#include "vtpm/xen/front_device.h"
#include "vtpm/xen/tpmif.h"

namespace vtpm::front {

class ChipRelay {
  public:
    enum class End {
        stopped,    // by the signal
        inherited,  // another process has the chip now
        removed,    // the toolstack has taken the device away
    };

    // What is to be done with the event channel of a connection that did not survive a resume.
    using LayAside = std::function<void(std::unique_ptr<xen::EventChannel>)>;

    // `device` is connected. `signals`: readable when this process is to end. All must outlive it.
    ChipRelay(xen::FrontDevice& device, int store_fd, ProxyChip& chip, Testator& heirs, int signals,
              LayAside lay_aside)
        : device_(device),
          store_fd_(store_fd),
          chip_(chip),
          heirs_(heirs),
          signals_(signals),
          lay_aside_(std::move(lay_aside)) {}

    // Until it ends. At the signal the TPM is told so, as by firmware: TPM2_Shutdown. `ready` is
    // called once, when programs can use the TPM.
    Result<End> run(const std::function<void()>& ready);

  private:
    static constexpr std::chrono::milliseconds look_interval{500};
    static constexpr std::chrono::milliseconds ready_interval{20};
    static constexpr std::chrono::seconds connect_patience{10};
    static constexpr std::chrono::seconds farewell_patience{5};
    static constexpr std::chrono::seconds heir_patience{15};

    int patience() const;
    Result<bool> let_inherit();
    Result<void> look();
    Result<void> reconnect();
    Result<void> relay_one();
    Result<ByteView> answer_to(ByteView command);
    Result<ByteView> set_locality(ByteView command);
    Result<ByteView> ask(ByteView command);
    Result<ByteView> what_was_left(xen::FrontDevice::Standing standing);
    ByteView answer_of(std::size_t size);
    ByteView refusal(tpm::Refusal why);
    void say_farewell();

    xen::FrontDevice& device_;
    int store_fd_;
    ProxyChip& chip_;
    Testator& heirs_;
    int signals_;
    LayAside lay_aside_;
    bool connected_ = true;
    bool ready_ = false;
    bool removed_ = false;
    bool told_ = false;
    std::uint8_t locality_ = 0;
    std::array<std::uint8_t, xen::tpmif::max_packet> response_{};
};

}  // namespace vtpm::front
