// Translations between the vault's values and the messages of the wire.
#pragma once

#include "vtpm/vault/vault.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::manager {

void describe(const vault::Instance& instance, wire::proto::Instance& into);
void describe(const vault::Status& status, wire::proto::Status& into);
void describe(const vault::Group& group, wire::proto::Group& into);
void describe(const vault::BootStatement& statement, wire::proto::BootStatement& into);
void describe(const vault::StoredApproval& approval, wire::proto::Approval& into);
void describe(const vault::Event& event, wire::proto::LogLine& into);

// Errc::invalid_argument for PCRs that do not exist, or values that are not 32 bytes.
Result<vault::ApproverWish> wish_of(const wire::proto::Approver& approver);
// An instance's policy as the vault keeps it. Errc::invalid_argument; Errc::corrupt.
Result<Bytes> policy_bytes(const wire::proto::CommandPolicy& policy);
// That of an instance to be made; empty: the default.
Result<Bytes> policy_of_new(const wire::proto::Create& request, bool has_state);
Result<wire::proto::CommandPolicy> policy_of(const vault::Instance& instance);
// What a package's says, but for what only this host's operator may allow. Errc::malformed, and as
// policy_bytes().
Result<Bytes> policy_of_package(const vault::PackageFacts& facts);
Result<chip::PcrValues> pcrs_of(const google::protobuf::RepeatedPtrField<wire::proto::Pcr>& values);

}  // namespace vtpm::manager
