#include "vtpm/engine/libtpms_engine.h"

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_types.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "callbacks.h"
#include "profile.h"
#include "vtpm/engine/state_shelf.h"
#include "vtpm/engine/time_of_day.h"
#include "vtpm/tpm/message.h"

namespace vtpm::engine {
namespace {

bool one_exists = false;

constexpr std::uint32_t shutdown_2_0 = 0x145;

bool has_code(ByteView message, std::uint32_t code) {
    const auto header = tpm::parse_header(message);
    return header && header->code == code;
}

std::string libtpms_says(const char* what, TPM_RESULT result) {
    return std::string(what) + ": libtpms error " + std::to_string(result);
}

}  // namespace

LibtpmsEngine::LibtpmsEngine() : shelf_(std::make_unique<StateShelf>()) {
    if (one_exists)
        throw std::logic_error("libtpms holds one TPM a process");
    one_exists = true;
}

LibtpmsEngine::~LibtpmsEngine() {
    if (initialised_)
        TPMLIB_Terminate();
    // libtpms allocated it with malloc.
    if (response_ != nullptr)
        OPENSSL_cleanse(response_, response_capacity_);
    std::free(response_);
    one_exists = false;
}

void LibtpmsEngine::warm_up() {
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS |
                            OPENSSL_INIT_ADD_ALL_DIGESTS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                        nullptr);
    std::array<unsigned char, 32> discarded{};
    // Seeds the generator now: later there is no file system to fall back on.
    if (RAND_bytes(discarded.data(), static_cast<int>(discarded.size())) != 1) {
        throw std::runtime_error("no random numbers from OpenSSL");
    }
    OPENSSL_cleanse(discarded.data(), discarded.size());
}

Result<void> LibtpmsEngine::power_on(PowerOn start) {
    version_ = start.version;
    if (!start.seed.empty()) {
        RAND_add(start.seed.view().data(), static_cast<int>(start.seed.size()), 0.0);
    }
    const bool cold = start.volatile_state.empty();
    if (!cold) {
        start.blobs.push_back({StateKind::volatile_state, std::move(start.volatile_state)});
    }
    const std::string format = explain_format(start.blobs);
    shelf_->fill(std::move(start.blobs),
                 start.manufacture ? StateShelf::Absence::new_tpm : StateShelf::Absence::broken);
    const auto wanted =
        version_ == tpm::Version::v1_2 ? TPMLIB_TPM_VERSION_1_2 : TPMLIB_TPM_VERSION_2;
    if (const auto chosen = TPMLIB_ChooseTPMVersion(wanted); chosen != TPM_SUCCESS) {
        return fail(Errc::unsupported, libtpms_says("choosing the TPM version", chosen));
    }
    if (start.manufacture && version_ == tpm::Version::v2_0)
        VTPM_CHECK(choose_oldest_profile());
    TPMLIB_SetBufferSize(start.buffer_size, nullptr, nullptr);
    VTPM_CHECK(register_callbacks(*shelf_));
    go_on_from_time_of_day(start.time_of_day);
    initialised_ = true;  // even if it fails: it holds on to the version until it is terminated
    if (const auto started = TPMLIB_MainInit(); started != TPM_SUCCESS) {
        return fail(Errc::corrupt,
                    libtpms_says("starting the TPM from its state", started) + format);
    }
    running_ = true;
    // libtpms never deletes it for 2.0; left on the shelf, the next start would resume from it.
    shelf_->erase(StateKind::volatile_state);
    if (!cold)
        return {};
    if (start.manufacture)
        return finish(start);
    return start.has_firmware ? Result<void>() : start_up();
}

// What a factory does takes a TPM that is started. The banks of PCRs change with a reset, and
// firmware that gives Startup itself expects one.
Result<void> LibtpmsEngine::finish(const PowerOn& start) {
    VTPM_CHECK(start_up());
    if (version_ == tpm::Version::v1_2) {
        VTPM_CHECK(make_endorsement_key());
        return start.has_firmware ? reset() : Result<void>();
    }
    for (const auto key : {tpm::EndorsementKey::rsa_2048, tpm::EndorsementKey::ecc_p256})
        VTPM_CHECK(make_endorsement_key(key));
    VTPM_CHECK(run_own("choosing the banks of PCRs", tpm::allocate_pcrs(start.banks)));
    VTPM_CHECK(run_own("shutting down the new TPM", tpm::shutdown_clear()));
    VTPM_CHECK(reset());
    return start.has_firmware ? Result<void>() : start_up();
}

// A TPM 2.0 can make them at any time; whoever asks for its identity expects them there.
Result<void> LibtpmsEngine::make_endorsement_key(tpm::EndorsementKey key) {
    const std::string making = "making an endorsement key";
    VTPM_TRY(const auto object, run_own(making, tpm::create_endorsement_key(key)));
    VTPM_CHECK(run_own(making, tpm::make_persistent(object, tpm::persistent_handle(key))));
    VTPM_CHECK(run_own(making, tpm::flush_context(object)));
    return {};
}

Result<void> LibtpmsEngine::make_endorsement_key() {
    // A TPM 1.2 leaves its factory with an endorsement key; without one it cannot be owned.
    std::array<std::uint8_t, 20> nonce{};
    if (RAND_bytes(nonce.data(), static_cast<int>(nonce.size())) != 1) {
        return fail(Errc::io, "no random numbers from OpenSSL");
    }
    VTPM_CHECK(run_own("making the endorsement key", tpm::create_endorsement_key_pair(nonce)));
    return {};
}

Result<void> LibtpmsEngine::reset() {
    TPMLIB_Terminate();
    running_ = false;
    if (const auto started = TPMLIB_MainInit(); started != TPM_SUCCESS) {
        return fail(Errc::corrupt, libtpms_says("resetting the new TPM", started));
    }
    running_ = true;
    return {};
}

Result<void> LibtpmsEngine::start_up() {
    VTPM_CHECK(run_own("starting it", tpm::startup_clear(version_)));
    return {};
}

// A command of the firmware's or the factory's, at locality 0, that must succeed; the first four
// bytes behind the answer's header, which are a handle if the command makes one.
Result<std::uint32_t> LibtpmsEngine::run_own(const std::string& what, ByteView command) {
    std::array<std::uint8_t, 4096> response{};
    const auto size = execute(command, 0, response);
    const auto answer = ByteView(response).first(size);
    VTPM_TRY(const auto header, tpm::parse_header(answer));
    if (header.code != 0) {
        return fail(Errc::corrupt, what + ": the TPM answered with code " +
                                       to_hex(ByteWriter().u32(header.code).written()));
    }
    return ByteReader(answer.subspan(tpm::header_size)).u32().value_or(0);
}

std::size_t LibtpmsEngine::refuse(MutableByteView response) const {
    return tpm::write_refusal(version_, tpm::Refusal::failed, response);
}

std::size_t LibtpmsEngine::execute(ByteView command, std::uint8_t locality,
                                   MutableByteView response) {
    if (!running_)
        return refuse(response);
    set_locality(locality);
    shut_down_ = false;
    std::uint32_t size = 0;
    // libtpms takes a pointer to non-const but documents the command as input only.
    const auto result = TPMLIB_Process(&response_, &size, &response_capacity_,
                                       const_cast<unsigned char*>(command.data()),
                                       static_cast<std::uint32_t>(command.size()));
    if (result != TPM_SUCCESS || size < tpm::header_size || size > response.size()) {
        return refuse(response);
    }
    shut_down_ = has_code(command, shutdown_2_0) && has_code({response_, size}, TPM_SUCCESS);
    std::copy_n(response_, size, response.begin());
    OPENSSL_cleanse(response_, size);  // it may hold what the guest just unsealed
    return size;
}

void LibtpmsEngine::cancel() {
    TPMLIB_CancelCommand();
}

std::vector<StateBlob> LibtpmsEngine::take_changes() {
    return shelf_->take_changes();
}

Result<SecretBytes> LibtpmsEngine::volatile_state() {
    if (!running_)
        return fail(Errc::unavailable, "the TPM is not running");
    unsigned char* buffer = nullptr;
    std::uint32_t size = 0;
    const auto got = TPMLIB_GetState(TPMLIB_STATE_VOLATILE, &buffer, &size);
    if (got != TPM_SUCCESS)
        return fail(Errc::corrupt, libtpms_says("reading volatile state", got));
    auto state = SecretBytes::copy_of({buffer, size});
    OPENSSL_cleanse(buffer, size);
    std::free(buffer);
    return state;
}

// TPM2_Shutdown spares the guest a step of its dictionary-attack counter; TPM 1.2 has no such
// command. One that the guest has given itself stands: it may have been for a Startup(STATE).
void LibtpmsEngine::power_off() {
    if (!running_)
        return;
    if (version_ == tpm::Version::v2_0 && !shut_down_) {
        // A TPM in failure mode refuses it; then there is nothing to keep either.
        (void)run_own("shutting down", tpm::shutdown_clear());
    }
    TPMLIB_Terminate();
    running_ = initialised_ = false;
}

}  // namespace vtpm::engine
