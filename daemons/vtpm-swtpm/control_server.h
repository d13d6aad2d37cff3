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
    struct Settings {
        std::string
            volatile_file;  // where STORE_VOLATILE leaves its ticket, and INIT looks for one
        std::string instance_file;  // see state_directory.h; none: empty
        bool refuses_locality_4 = false;
        bool has_key = false;  // what GET_CONFIG tells
        bool has_migration_key = false;
    };

    ControlServer(SocketTpm& tpm, Settings settings) : tpm_(tpm), settings_(std::move(settings)) {}

    // INIT: a TPM_RESULT. `gives_startup`: and TPM2_Startup(CLEAR), or TPM_Startup(ST_CLEAR).
    std::uint32_t power_on(bool gives_startup);

    // `received` is one whole request; `descriptor` came with it, or none did.
    Bytes handle(const Request& request, Fd descriptor);
    // What cannot be a request.
    static Bytes refuse(const Request& request);

    bool shut_down() const { return shut_down_; }
    // Another peer, after a SHUTDOWN that did not end this process.
    void begin_again() { shut_down_ = false; }

  private:
    Bytes stop();
    std::uint32_t begin(bool gives_startup);
    void forget_volatile();
    Bytes shutdown();
    Bytes established();
    Bytes config() const;
    Bytes set_locality(std::uint8_t locality);
    Bytes hash(Command command, ByteView body);
    Bytes store_volatile();
    Bytes get_stateblob(ByteReader body);
    Bytes set_stateblob(ByteReader body);
    Bytes set_buffersize(std::uint32_t wanted);
    Bytes info(ByteReader body);

    SocketTpm& tpm_;
    Settings settings_;
    bool shut_down_ = false;
};

}  // namespace vtpm::swtpm
