// FailedTpm: the TPM of a guest whose real one could not be started or has died. It answers every
// command as a TPM in failure mode does, so that the guest learns at once what a silent ring would
// tell it after minutes. Until the guest's next power cycle it never becomes anything else.
#pragma once

#include "vtpm/engine/engine.h"
#include "vtpm/tpm/message.h"

namespace vtpm::engine_program {

class FailedTpm : public engine::Engine {
  public:
    explicit FailedTpm(tpm::Version version, tpm::Refusal refusal = tpm::Refusal::failed)
        : version_(version), refusal_(refusal) {}

    Result<void> power_on(engine::PowerOn) override { return {}; }
    std::size_t execute(ByteView, std::uint8_t, MutableByteView response) override {
        return tpm::write_refusal(version_, refusal_, response);
    }
    void cancel() override {}
    std::vector<engine::StateBlob> take_changes() override { return {}; }
    Result<SecretBytes> volatile_state() override {
        return fail(Errc::unavailable, "a failed TPM has no state to hand over");
    }
    void power_off() override {}

  private:
    tpm::Version version_;
    tpm::Refusal refusal_;
};

}  // namespace vtpm::engine_program
