// --set-pcr-banks: the banks of PCRs of a TPM 2.0 whose machine is off, as swtpm_setup changes them
// before a domain starts.
#pragma once

#include "socket_tpm.h"
#include "vtpm/tpm/factory.h"

namespace vtpm::swtpm {

// Of one that never had power, what it is to be made with is changed; any other gets power here for
// the time that it takes. Both from its next power-on. `tpm` is this instance's, and has no engine.
// Errc::in_use: its machine is not off.
Result<void> set_pcr_banks(SocketTpm& tpm, const FoundInstance& instance,
                           const std::string& manager, const tpm::PcrBanks& banks);

}  // namespace vtpm::swtpm
