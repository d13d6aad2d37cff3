// ControlServer: what each command of swtpm's control channel does to the TPM, and its answer.
// Knows no sockets. One thread.
#pragma once

#include <functional>
#include <string>

#include "control_message.h"
#include "socket_tpm.h"

namespace vtpm::swtpm {

class ControlServer {
  public:
    // `volatile_file`: where STORE_VOLATILE leaves its ticket, and INIT looks for one.
    ControlServer(SocketTpm& tpm, std::string volatile_file)
        : tpm_(tpm), volatile_file_(std::move(volatile_file)) {}

    // `received` is one whole request; `descriptor` came with it, or none did.
    Bytes handle(const Request& request, Fd descriptor);
    // What cannot be a request.
    static Bytes refuse(const Request& request);

    bool shut_down() const { return shut_down_; }
    // Another peer, after a SHUTDOWN that did not end this process.
    void begin_again() { shut_down_ = false; }

  private:
    Bytes init();
    Bytes stop();
    void forget_volatile();
    Bytes shutdown();
    Bytes established();
    Bytes hash(Command command, ByteView body);
    Bytes store_volatile();
    Bytes get_stateblob(ByteReader body);
    Bytes set_stateblob(ByteReader body);
    Bytes set_buffersize(std::uint32_t wanted);
    Bytes info(ByteReader body);

    SocketTpm& tpm_;
    std::string volatile_file_;
    bool shut_down_ = false;
};

}  // namespace vtpm::swtpm
