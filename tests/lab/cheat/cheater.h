// Cheater: a front end that knows how to be honest, and has what it takes not to be.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "raw_grants.h"
#include "vtpm/base/bytes.h"
#include "vtpm/xen/front_device.h"
#include "vtpm/xen/libxen_event_ports.h"
#include "vtpm/xen/libxen_store.h"

namespace vtpm::cheat {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

// What a program has seen, printed as NAME=VALUE.
using Tally = std::map<std::string, std::string>;

// Throws with the context of an error: what a cheat needs as a matter of course failed.
void required(const Result<void>& done);

// Event ports that remember the last channel.
class Ports final : public xen::EventPorts {
  public:
    Result<xen::OpenPort> open(xen::DomainId peer) override;
    xen::EventChannel& last() const { return *last_; }

  private:
    xen::LibxenEventPorts ports_;
    xen::EventChannel* last_ = nullptr;
};

class Cheater {
  public:
    static constexpr const char* path = "device/vtpm/0";

    Cheater();

    // The honest handshake, whatever came before.
    void connect();
    // An honest command; empty when there was no answer.
    Bytes transmit(ByteView command, Milliseconds patience = std::chrono::seconds(120));

    std::uint8_t* raw() const { return grants_.raw(); }
    xen::SharedPage page() const { return xen::SharedPage(raw()); }
    // Writes the packet, the header but for its state, and then the state.
    void put(const xen::tpmif::Header& header, ByteView packet);
    // Rings the bell, whatever there is to hear.
    void ring() const { (void)ports_.last().notify(); }
    // put(), ring(), and until the state is another one. False: it stayed.
    bool answered(const xen::tpmif::Header& header, ByteView packet,
                  Milliseconds patience = std::chrono::seconds(20));

    // The answer on the page made a key: the TPM has room for three.
    void forget_key();

    // Whatever xenstore says to it.
    void write(const std::string& node, const std::string& value);

    xen::FrontDevice& device() { return device_; }
    RawGrants& grants() { return grants_; }
    Ports& ports() { return ports_; }

  private:
    std::unique_ptr<xen::LibxenStore> store_;  // the device's: it takes its events
    std::unique_ptr<xen::LibxenStore> other_store_;
    RawGrants grants_;
    Ports ports_;
    xen::FrontDevice device_;
};

}  // namespace vtpm::cheat
