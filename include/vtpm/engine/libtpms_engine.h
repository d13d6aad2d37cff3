// LibtpmsEngine: the Engine on libtpms. libtpms keeps its state in file statics and its callbacks
// take no context, so there can be one in a process; a second constructor call throws
// std::logic_error.
//
// libtpms longjmps across TPMLIB_Process: nothing with a destructor lives in its frames, and no
// exception passes through a callback.
#pragma once

#include "vtpm/engine/engine.h"
#include "vtpm/engine/platform.h"

namespace vtpm::engine {

class StateShelf;

class LibtpmsEngine : public Engine, public Platform {
  public:
    LibtpmsEngine();
    ~LibtpmsEngine() override;

    Result<void> power_on(PowerOn start) override;
    std::size_t execute(ByteView command, std::uint8_t locality, MutableByteView response) override;
    void cancel() override;
    std::vector<StateBlob> take_changes() override;
    Result<SecretBytes> volatile_state() override;
    void power_off() override;

    std::uint32_t hash_start() override;
    std::uint32_t hash_data(ByteView data) override;
    std::uint32_t hash_end() override;
    std::uint32_t established(bool& value) override;
    std::uint32_t reset_established(std::uint8_t locality) override;

    // TPMLIB_GetInfo: JSON about the library. Of the TPM that runs, or of a version if none does.
    static std::string info(tpm::Version version, std::uint32_t flags);

    // Loads what OpenSSL and libtpms would otherwise load on first use (configuration files, random
    // number generator): call before the file system is gone.
    static void warm_up();

  private:
    Result<void> start_up();
    Result<void> finish(const PowerOn& start);
    Result<void> make_endorsement_key();
    Result<void> make_endorsement_key(tpm::EndorsementKey key);
    Result<void> reset();
    std::size_t refuse(MutableByteView response) const;
    Result<std::uint32_t> run_own(const std::string& what, ByteView command);

    std::unique_ptr<StateShelf> shelf_;
    tpm::Version version_ = tpm::Version::v1_2;
    bool initialised_ = false;  // TPMLIB_MainInit was called, so TPMLIB_Terminate must be
    bool running_ = false;      // and it succeeded
    bool shut_down_ = false;    // the last command was TPM2_Shutdown
    // libtpms' response buffer: allocated by it, grown by it, kept for the next command.
    unsigned char* response_ = nullptr;
    std::uint32_t response_capacity_ = 0;
};

}  // namespace vtpm::engine
