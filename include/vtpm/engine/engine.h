// Engine: one TPM, as its surroundings see it: bytes in, bytes out, and state that wants to be
// kept.
//
// The caller drives the power: power_on() once, execute() any number of times, then power_off() or
// volatile_state(). After each of these take_changes() says what became different in the lasting
// state; the caller makes it durable *before* it lets anyone see the response. All calls come from
// one thread, cancel() from any.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vtpm/base/bytes.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/tpm/factory.h"
#include "vtpm/tpm/version.h"

namespace vtpm::engine {

// The kinds of state that libtpms keeps apart; the numbers are those of the vault's records.
enum class StateKind : std::uint8_t { permanent = 1, volatile_state = 2, saved = 3 };

struct StateBlob {
    StateKind kind;
    std::optional<SecretBytes> content;  // nullopt in a change: the blob is to be gone
};

struct PowerOn {
    tpm::Version version;
    bool manufacture = false;                    // only for an instance that was never stored
    std::vector<StateBlob> blobs;                // the lasting state; empty exactly if manufacture
    SecretBytes volatile_state;                  // to go on with; empty: a cold start
    SecretBytes seed;                            // entropy from the host's chip, mixed in
    std::uint64_t time_of_day = 0;               // that volatile_state has seen: time_of_day.h
    bool has_firmware = false;                   // which gives Startup itself
    tpm::PcrBanks banks{tpm::default_pcr_bank};  // of a TPM 2.0 that is manufactured
    // The ring's packet is 4088 bytes; libtpms' own 4096 would make responses that do not fit.
    std::uint32_t buffer_size = 4088;
};

class Engine {
  public:
    virtual ~Engine() = default;

    // Loads or manufactures the TPM and does what firmware would (Startup after a cold start), if
    // there is none.
    virtual Result<void> power_on(PowerOn start) = 0;

    // Runs one command and returns the size of its response. `response` holds at least 4096 bytes.
    // Never fails: what goes wrong is a TPM error response.
    virtual std::size_t execute(ByteView command, std::uint8_t locality,
                                MutableByteView response) = 0;

    // Asks a command that runs on the other thread to end early. Harmless when none runs.
    virtual void cancel() = 0;

    // What changed in the lasting state since the last call; the newest blob of each kind.
    virtual std::vector<StateBlob> take_changes() = 0;

    // A copy of all that a power cycle would lose. The TPM is not to be used after it.
    virtual Result<SecretBytes> volatile_state() = 0;

    // Orderly shutdown, as an operating system does before power goes.
    virtual void power_off() = 0;
};

}  // namespace vtpm::engine
