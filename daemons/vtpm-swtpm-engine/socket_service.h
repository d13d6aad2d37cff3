// SocketService: the life of one engine whose guest talks to it over a socket, by the orders of
// vtpm-swtpm.
//
//   no power --PowerOn--> on (or in failure mode) --PowerOff, Suspend--> the end
//
// Before PowerOn commands are answered as by a chip without power: QEMU sends one to see which
// version of TPM it has. One thread; see CancelWatcher for the other.
#pragma once

#include <memory>
#include <optional>

#include "cancel_bell.h"
#include "command_server.h"
#include "data_channel.h"
#include "orders.h"
#include "state_client.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::swtpm_engine {

class SocketService {
  public:
    SocketService(tpm::Version version, CancelBell& bell, engine_program::CancelWatcher& watcher,
                  wire::Channel& doorman, engine_program::StateClient& state);

    // Returns when the TPM has ended in order.
    Result<void> run();

  private:
    Result<void> wait();
    Result<void> serve();
    Result<void> data_ended();
    Result<void> obey();
    Result<void> obey_platform(const wire::proto::Order& order, ByteView payload);
    Result<void> power_on(const wire::proto::PowerOn& order);
    // `told`: the order was answered on the way.
    Result<wire::proto::Ready> start(const wire::proto::PowerOn& order, bool& told);
    void answer_with(std::unique_ptr<engine::Engine> tpm, tpm::CommandPolicy policy);
    std::optional<Fd> await_channel();
    Result<void> suspend(const wire::proto::Suspend& order);
    Result<void> power_off(const wire::proto::Report& done);
    Result<void> answer_lasting(std::uint32_t result);
    Result<void> answer(std::uint32_t result, bool established = false, ByteView payload = {});

    tpm::Version version_;
    CancelBell& bell_;
    engine_program::CancelWatcher& watcher_;
    wire::Channel& doorman_;
    engine_program::Orders orders_;
    engine_program::StateClient& state_;
    std::unique_ptr<engine::Engine> tpm_;
    engine::Platform* platform_ = nullptr;  // of a TPM that runs
    std::unique_ptr<engine_program::CommandServer> server_;
    std::optional<DataChannel> data_;
    std::uint8_t locality_ = 0;
    bool powered_ = false;
    bool measured_ = false;  // by a hash sequence, or its flag was reset
    bool ended_ = false;
    bool suspending_ = false;  // vtpm-swtpm asks again; here nobody waits for another channel
};

}  // namespace vtpm::swtpm_engine
