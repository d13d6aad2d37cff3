#include "approvals.h"

#include <algorithm>

#include "columns.h"

namespace vtpm::vault {
namespace {

constexpr int sha1_size = 20;  // a TPM 1.2's PCRs have no more
constexpr std::size_t entry_size = 1 + std::tuple_size_v<chip::Digest>;

Bytes packed(const chip::PcrValues& pcrs) {
    ByteWriter writer;
    for (const auto& [number, value] : pcrs)
        writer.u8(number).bytes(value);
    return writer.take();
}

std::optional<chip::PcrValues> unpacked(ByteView bytes) {
    if (bytes.empty() || bytes.size() % entry_size != 0)
        return std::nullopt;
    chip::PcrValues pcrs;
    for (; !bytes.empty(); bytes = bytes.subspan(entry_size)) {
        chip::Digest value{};
        std::copy_n(bytes.begin() + 1, value.size(), value.begin());
        if (bytes[0] > chip::Chip::max_pcr || !pcrs.emplace(bytes[0], value).second)
            return std::nullopt;
    }
    return pcrs;
}

std::vector<std::uint8_t> numbers_of(const chip::PcrValues& pcrs) {
    std::vector<std::uint8_t> numbers;
    for (const auto& [number, value] : pcrs)
        numbers.push_back(number);
    return numbers;
}

// "PCR 4, 9": those that are not what the statement says.
std::string differences(const chip::PcrValues& wanted, const chip::PcrValues& now) {
    std::string text;
    for (const auto& [number, value] : wanted) {
        const auto is = now.find(number);
        if (is == now.end() || is->second != value)
            text += (text.empty() ? "PCR " : ", ") + std::to_string(number);
    }
    return text;
}

tl::unexpected<Error> not_approved(const std::string& why) {
    return fail(Errc::not_approved, NextAction::ask_operator,
                why +
                    ". Nothing is lost: boot what was approved, or have this boot approved "
                    "(vtpmctl approve this-boot)");
}

}  // namespace

Result<std::vector<ApprovalRow>> read_approvals(Database& database, const Uuid& group) {
    VTPM_TRY(Statement query,
             database.prepare("SELECT id, group_uuid, made, counter_limit, pcrs, signature, actor"
                              " FROM approvals WHERE group_uuid = ? ORDER BY id DESC"));
    VTPM_CHECK(query.start(group.bytes()));
    std::vector<ApprovalRow> rows;
    for (;;) {
        VTPM_TRY(const bool more, query.next());
        if (!more)
            return rows;
        Columns columns(query);
        ApprovalRow row;
        row.id = columns.integer();
        row.stored.group = columns.uuid();
        row.stored.made = columns.integer();
        row.stored.approval.limit = static_cast<std::uint64_t>(columns.integer());
        const auto pcrs = unpacked(columns.bytes());
        row.stored.approval.signature = columns.bytes();
        if (!columns.sound() || !pcrs)
            continue;
        row.stored.approval.pcrs = *pcrs;
        row.untold = columns.optional_text();
        rows.push_back(std::move(row));
    }
}

Result<void> add_approval(Database& database, const StoredApproval& stored,
                          const std::optional<std::string>& untold) {
    VTPM_TRY(Statement put,
             database.prepare("INSERT INTO approvals(group_uuid, made, counter_limit, pcrs,"
                              " signature, actor) VALUES(?, ?, ?, ?, ?, ?)"));
    const Bytes pcrs = packed(stored.approval.pcrs);
    return put.run(stored.group.bytes(), stored.made,
                   static_cast<std::int64_t>(stored.approval.limit), ByteView(pcrs),
                   ByteView(stored.approval.signature),
                   untold ? std::optional(std::string_view(*untold)) : std::nullopt);
}

Result<void> approval_is_told(Database& database, std::int64_t id) {
    VTPM_TRY(Statement change, database.prepare("UPDATE approvals SET actor = NULL WHERE id = ?"));
    return change.run(id);
}

Result<void> erase_approval(Database& database, std::int64_t id) {
    VTPM_TRY(Statement erase, database.prepare("DELETE FROM approvals WHERE id = ?"));
    return erase.run(id);
}

bool binds_nothing(const chip::PcrValues& pcrs) {
    return std::all_of(pcrs.begin(), pcrs.end(), [](const auto& entry) {
        const auto& value = entry.second;
        return (value[0] == 0x00 || value[0] == 0xff) &&
               std::all_of(value.begin(), value.begin() + sha1_size,
                           [&](std::uint8_t byte) { return byte == value[0]; });
    });
}

Result<bool> matches_boot(chip::Chip& chip, const chip::PcrValues& pcrs) {
    VTPM_TRY(const auto now, chip.read_pcrs(numbers_of(pcrs)));
    return now == pcrs;
}

Result<chip::SealedObject> seal_key(chip::Chip& chip, const SecretBytes& key,
                                    const chip::Binding& binding) {
    VTPM_TRY(chip::SealedObject sealed, chip.seal(key, binding));
    if (binding.approver)
        return sealed;
    const auto again = chip.unseal(sealed, binding, nullptr);
    if (!again && again.error().code == Errc::latched)
        return sealed;
    // Opened with the recovery key on another boot than those that it is sealed for.
    if (!again && again.error().code == Errc::not_approved && !binding.boots.empty())
        return sealed;
    if (!again)
        return tl::make_unexpected(again.error());
    if (!equal_constant_time(again->view(), key.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip unseals something else than it sealed");
    }
    return sealed;
}

Result<SecretBytes> unseal_key(chip::Chip& chip, const chip::SealedObject& sealed,
                               const chip::Binding& binding,
                               const std::vector<ApprovalRow>& approvals) {
    const auto checked = [&](const chip::Approval* approval) -> Result<SecretBytes> {
        auto key = chip.unseal(sealed, binding, approval);
        if (!key && key.error().code == Errc::wrong_chip) {
            // expect() has proved the chip to be the right one, so it is the object that is not.
            return fail(Errc::corrupt,
                        "a sealed key on the disk was changed: " + key.error().context);
        }
        if (key && key->size() != key_size)
            return fail(Errc::chip, NextAction::ask_operator,
                        "the chip gave a key of the wrong size");
        return key;
    };
    if (!binding.approver) {
        auto key = checked(nullptr);
        if (key || key.error().code != Errc::not_approved)
            return key;
        return fail(Errc::not_approved, NextAction::ask_operator,
                    "this boot is not approved: " + key.error().context +
                        ". Nothing is lost: boot what was approved, or give the recovery key "
                        "(vtpmctl unlock --recovery-key FILE) and have this boot approved (vtpmctl "
                        "approve this-boot --legacy-tpm12)");
    }
    std::string why = "nobody has approved a boot of this host yet";
    bool first = true;
    for (const auto& row : approvals) {
        const auto& approval = row.stored.approval;
        VTPM_TRY(const auto now, chip.read_pcrs(numbers_of(approval.pcrs)));
        if (now != approval.pcrs) {
            if (std::exchange(first, false))
                why = "this boot is not approved: " + differences(approval.pcrs, now) +
                      " is not what the newest statement of the approver says";
            continue;
        }
        auto key = checked(&approval);
        if (key || key.error().code != Errc::not_approved)
            return key;
        if (std::exchange(first, false))
            why = "the statement about this boot is void: " + key.error().context;
    }
    return not_approved(why);
}

}  // namespace vtpm::vault
