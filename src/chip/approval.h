// How the chip is convinced: signatures, the policy of a Binding, and the PCRs.
//
// Private to the chip room. Part 3 clauses 12.3 (LoadExternal), 20.1 (VerifySignature), 22.4
// (PCR_Read), 23 (policies).
#pragma once

#include "esys_connection.h"
#include "vtpm/chip/chip.h"

namespace vtpm::chip {

// Proof for TPM2_PolicyAuthorize that an approver signed.
struct Ticket {
    Digest boot{};  // the policy that was signed
    Bytes key_name;
    TPMT_TK_VERIFIED verified{};
};

// Checks the approval in software and then in the chip. Leaves nothing loaded. `approval` may be
// null: Errc::not_approved.
Result<Ticket> verify_in_chip(EsysConnection& connection, const Approver& approver,
                              const Approval* approval);

// Errc::unsupported if the chip cannot verify with a key of this kind.
Result<void> check_key_in_chip(EsysConnection& connection, const Approver& approver);

// Brings the policy session to policy::digest_of(binding), or says why it cannot. `ticket` and
// `approval` belong to the binding's approver, if it has one.
Result<void> satisfy(EsysConnection& connection, const LoadedHandle& session,
                     const Binding& binding, const Ticket& ticket, const Approval* approval);

Result<PcrValues> pcr_values(EsysConnection& connection, const std::vector<std::uint8_t>& numbers);

}  // namespace vtpm::chip
