// Approvals: the signed statements about boots, as they lie in the database.
//
// They are under no MAC, because they come when the vault is locked, too: the approver's signature
// is what counts, and the chip checks it. A row that cannot be read is one that is not there.
// Private to the vault room.
#pragma once

#include <vector>

#include "group_record.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

inline constexpr std::size_t max_approvals = 64;  // a group

struct ApprovalRow {
    std::int64_t id = 0;
    StoredApproval stored;
    // Who has brought it while the vault was locked, as long as the journal does not say so.
    std::optional<std::string> untold;
};

// Newest first.
Result<std::vector<ApprovalRow>> read_approvals(Database& database, const Uuid& group);
Result<void> add_approval(Database& database, const StoredApproval& stored,
                          const std::optional<std::string>& untold);
// The journal says so now.
Result<void> approval_is_told(Database& database, std::int64_t id);
Result<void> erase_approval(Database& database, std::int64_t id);

// All of them 0x00... or all 0xff...: such PCRs were measured by nobody.
bool binds_nothing(const chip::PcrValues& pcrs);

// Whether the chip's PCRs are these now.
Result<bool> matches_boot(chip::Chip& chip, const chip::PcrValues& pcrs);

// Unsealed once more where the binding lets us: a key that the chip will not give back must not
// become the only one.
Result<chip::SealedObject> seal_key(chip::Chip& chip, const SecretBytes& key,
                                    const chip::Binding& binding);

// A sealed key, with the statement that approves this boot, if the binding wants one.
// Errc::not_approved with the reason if none does; Errc::chip if it has not the size of a key.
Result<SecretBytes> unseal_key(chip::Chip& chip, const chip::SealedObject& sealed,
                               const chip::Binding& binding,
                               const std::vector<ApprovalRow>& approvals);

}  // namespace vtpm::vault
