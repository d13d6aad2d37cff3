// RecordingOwner: a BackDeviceOwner that writes down what it is told, holds the order of the calls
// against the contract, and can refuse to connect.
#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "vtpm/xen/back_device_owner.h"

namespace vtpm::xen {

class RecordingOwner final : public BackDeviceOwner {
  public:
    void refuse(std::optional<Error> with) { refusal_ = std::move(with); }

    // "connect 8:12", "disconnect", "power_off", "gone"
    std::vector<std::string> calls;
    unsigned connects = 0;  // attempts
    DomainLife last_life;
    std::function<void()> during_power_off = [] {};  // the world goes on meanwhile

    Result<void> connect(const RingAddress& ring) override {
        must(!connected_ && !powered_off_, "connect");
        ++connects;
        if (refusal_)
            return tl::make_unexpected(*refusal_);
        connected_ = true;
        calls.push_back("connect " + std::to_string(ring.ring_ref) + ":" +
                        std::to_string(ring.event_channel));
        return {};
    }
    void disconnect() override {
        must(connected_, "disconnect");
        connected_ = false;
        calls.push_back("disconnect");
    }
    void power_off(const DomainLife& last) override {
        must(!connected_ && !powered_off_, "power_off");
        powered_off_ = true;
        last_life = last;
        calls.push_back("power_off");
        during_power_off();
    }
    void gone() override {
        must(powered_off_ && !gone_, "gone");
        gone_ = true;
        calls.push_back("gone");
    }

  private:
    static void must(bool holds, const char* call) {
        if (!holds)
            throw std::logic_error(std::string(call) + " out of order");
    }

    std::optional<Error> refusal_;
    bool connected_ = false;
    bool powered_off_ = false;
    bool gone_ = false;
};

}  // namespace vtpm::xen
