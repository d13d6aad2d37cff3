#include "approval.h"

#include <algorithm>

#include "approver_key.h"
#include "chip_errors.h"
#include "marshal.h"
#include "nv_counter.h"
#include "policy_digest.h"

namespace vtpm::chip {
namespace {

template <typename Sized>
Sized sized(ByteView bytes) {
    Sized out{};
    out.size = static_cast<UINT16>(bytes.size());
    std::ranges::copy(bytes, reinterpret_cast<std::uint8_t*>(&out) + offsetof(Sized, buffer));
    return out;
}

TPM2B_NAME name_for_chip(ByteView bytes) {
    TPM2B_NAME out{};
    out.size = static_cast<UINT16>(bytes.size());
    std::ranges::copy(bytes, out.name);
    return out;
}

TPML_PCR_SELECTION selection_of(const std::vector<std::uint8_t>& numbers) {
    TPML_PCR_SELECTION out{};
    out.count = 1;
    out.pcrSelections[0].hash = TPM2_ALG_SHA256;
    out.pcrSelections[0].sizeofSelect = 3;
    for (const auto number : numbers)
        out.pcrSelections[0].pcrSelect[number / 8U] |= static_cast<BYTE>(1U << (number % 8U));
    return out;
}

std::vector<std::uint8_t> numbers_in(const PcrValues& pcrs) {
    std::vector<std::uint8_t> out;
    for (const auto& [number, value] : pcrs)
        out.push_back(number);
    return out;
}

// The approver's key, loaded. It has to be flushed before another object comes: a chip has room for
// three, and the storage root key may be one of them.
Result<LoadedHandle> load_key(EsysConnection& connection, ByteView key, const Bytes& name) {
    VTPM_TRY(const TPM2B_PUBLIC area, unmarshal_public(key));
    ESYS_TR handle = ESYS_TR_NONE;
    TSS2_RC code = TSS2_RC_SUCCESS;
    // The owner's hierarchy: a ticket of the null hierarchy proves nothing to PolicyAuthorize.
    const auto ran = connection.run("TPM2_LoadExternal", [&] {
        return code = Esys_LoadExternal(connection.esys(), ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                        nullptr, &area, ESYS_TR_RH_OWNER, &handle);
    });
    switch (tpm_code(code)) {
        case TPM2_RC_VALUE:
        case TPM2_RC_KEY_SIZE:
        case TPM2_RC_SCHEME:
        case TPM2_RC_CURVE:
        case TPM2_RC_ASYMMETRIC:
            return fail(Errc::unsupported, NextAction::ask_operator,
                        "the chip cannot verify with this kind of approval key; P-256 is what "
                        "every chip takes");
        default:
            break;
    }
    VTPM_CHECK(ran);
    LoadedHandle loaded(connection, handle, LoadedHandle::End::flush);
    VTPM_TRY(const Bytes given, connection.name_of(handle));
    if (given != name)
        return fail(Errc::malformed, "the chip gives the approval key another name than it has");
    return loaded;
}

tl::unexpected<Error> other_boot(EsysConnection& connection, const PcrValues& approved) {
    const auto now = pcr_values(connection, numbers_in(approved));
    return fail(Errc::not_approved,
                "this is not the boot that was approved: " +
                    (now ? "PCR " + policy::differing(approved, *now) + " has another value"
                         : std::string("the PCRs have other values")) +
                    " (firmware, boot loader, hypervisor, kernel or a command line changed)");
}

// TPM2_PolicyNV on the eight bytes of a counter; the chip's own code, for the caller to explain.
Result<TSS2_RC> compare(EsysConnection& connection, const LoadedHandle& session,
                        const LoadedHandle& index, std::uint64_t operand, TPM2_EO operation) {
    const auto with = sized<TPM2B_OPERAND>(ByteWriter().u64(operand).written());
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_PolicyNV", [&] {
        return code =
                   Esys_PolicyNV(connection.esys(), index.get(), index.get(), session.get(),
                                 ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &with, 0, operation);
    });
    if (tpm_code(code) == TPM2_RC_POLICY || tpm_code(code) == TPM2_RC_NV_LOCKED ||
        tpm_code(code) == TPM2_RC_NV_UNINITIALIZED) {
        return tpm_code(code);
    }
    VTPM_CHECK(ran);
    return TSS2_RC_SUCCESS;
}

Result<void> check_pcrs(EsysConnection& connection, const LoadedHandle& session,
                        const PcrValues& approved) {
    const auto digest = sized<TPM2B_DIGEST>(policy::digest_of(approved));
    const auto selection = selection_of(numbers_in(approved));
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_PolicyPCR", [&] {
        return code = Esys_PolicyPCR(connection.esys(), session.get(), ESYS_TR_NONE, ESYS_TR_NONE,
                                     ESYS_TR_NONE, &digest, &selection);
    });
    if (tpm_code(code) == TPM2_RC_VALUE)
        return other_boot(connection, approved);
    return ran;
}

Result<void> check_counter(EsysConnection& connection, const LoadedHandle& session,
                           const Counter& counter, std::uint64_t limit) {
    VTPM_TRY(const LoadedHandle index,
             find_counter(connection, counter, Errc::not_approved,
                          "all approvals are void: the chip's revocation counter"));
    VTPM_TRY(const TSS2_RC code, compare(connection, session, index, limit, TPM2_EO_UNSIGNED_LE));
    if (code != TSS2_RC_SUCCESS) {
        return fail(
            Errc::not_approved,
            "this approval was revoked: the chip's revocation counter has passed its limit " +
                std::to_string(limit));
    }
    return {};
}

Result<void> check_latch(EsysConnection& connection, const LoadedHandle& session,
                         const Latch& latch) {
    VTPM_TRY(const LoadedHandle index,
             find_latch(connection, latch, Errc::latched,
                        "the keys are out of reach for good: the chip's boot latch"));
    VTPM_TRY(const TSS2_RC code, compare(connection, session, index, latch.value, TPM2_EO_EQ));
    if (code == TPM2_RC_NV_LOCKED) {
        return fail(Errc::latched,
                    "the chip gives the keys once a boot, and has given them; reboot the host to "
                    "get them again");
    }
    if (code != TSS2_RC_SUCCESS) {
        return fail(Errc::latched,
                    "the keys are out of reach for good: the chip's boot latch was replaced (its "
                    "value is another)");
    }
    return {};
}

Result<void> authorize(EsysConnection& connection, const LoadedHandle& session,
                       const Digest& reference, const Ticket& ticket) {
    const auto boot = sized<TPM2B_DIGEST>(ticket.boot);
    const auto what = sized<TPM2B_NONCE>(reference);
    const auto name = name_for_chip(ticket.key_name);
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_PolicyAuthorize", [&] {
        return code = Esys_PolicyAuthorize(connection.esys(), session.get(), ESYS_TR_NONE,
                                           ESYS_TR_NONE, ESYS_TR_NONE, &boot, &what, &name,
                                           &ticket.verified);
    });
    if (tpm_code(code) == TPM2_RC_VALUE) {
        return fail(Errc::not_approved,
                    "the chip does not find what was approved in what it has seen of this boot "
                    "(its revocation counter is another, or somebody changes what is on its bus)");
    }
    return ran;
}

}  // namespace

Result<void> check_key_in_chip(EsysConnection& connection, const Approver& approver) {
    VTPM_TRY(const Bytes name, policy::name_of_key(approver.key));
    VTPM_CHECK(load_key(connection, approver.key, name));
    return {};
}

Result<Ticket> verify_in_chip(EsysConnection& connection, const Approver& approver,
                              const Approval* approval) {
    Ticket ticket;
    VTPM_TRY(ticket.key_name, policy::name_of_key(approver.key));
    if (approval == nullptr)
        return fail(Errc::not_approved, "no approval was given for this boot");
    VTPM_CHECK(policy::check_approval(approver, *approval));
    VTPM_TRY(ticket.boot, policy::approved(approver.counter, approval->pcrs, approval->limit));
    VTPM_TRY(const TPMT_SIGNATURE signature, signature_for_chip(approver.key, approval->signature));
    const Bytes words = ByteWriter().bytes(ticket.boot).bytes(approver.reference).take();
    const auto digest = sized<TPM2B_DIGEST>(policy::sha256(words));

    VTPM_TRY(const LoadedHandle key, load_key(connection, approver.key, ticket.key_name));
    EsysAnswer<TPMT_TK_VERIFIED> verified;
    TSS2_RC code = TSS2_RC_SUCCESS;
    const auto ran = connection.run("TPM2_VerifySignature", [&] {
        TPMT_TK_VERIFIED* answer = nullptr;
        code = Esys_VerifySignature(connection.esys(), key.get(), ESYS_TR_NONE, ESYS_TR_NONE,
                                    ESYS_TR_NONE, &digest, &signature, &answer);
        verified.reset(answer);
        return code;
    });
    if (tpm_code(code) == TPM2_RC_SIGNATURE)
        return fail(Errc::not_approved, "the chip finds the approval's signature wrong");
    VTPM_CHECK(ran);
    ticket.verified = *verified;
    return ticket;
}

Result<void> satisfy(EsysConnection& connection, const LoadedHandle& session,
                     const Binding& binding, const Ticket& ticket, const Approval* approval) {
    if (binding.approver) {
        if (approval == nullptr)
            return fail(Errc::not_approved, "no approval was given for this boot");
        VTPM_CHECK(check_pcrs(connection, session, approval->pcrs));
        VTPM_CHECK(check_counter(connection, session, binding.approver->counter, approval->limit));
        VTPM_CHECK(authorize(connection, session, binding.approver->reference, ticket));
    }
    if (binding.latch)
        VTPM_CHECK(check_latch(connection, session, *binding.latch));
    return connection.run("TPM2_PolicyCommandCode", [&] {
        return Esys_PolicyCommandCode(connection.esys(), session.get(), ESYS_TR_NONE, ESYS_TR_NONE,
                                      ESYS_TR_NONE, TPM2_CC_Unseal);
    });
}

Result<PcrValues> pcr_values(EsysConnection& connection, const std::vector<std::uint8_t>& numbers) {
    if (numbers.empty() || std::ranges::max(numbers) > Chip::max_pcr)
        return fail(Errc::invalid_argument, "there are the PCRs 0 to 23");
    PcrValues out;
    auto left = numbers;
    std::ranges::sort(left);
    left.erase(std::unique(left.begin(), left.end()), left.end());
    while (!left.empty()) {
        const TPML_PCR_SELECTION ask = selection_of(left);
        EsysAnswer<TPML_PCR_SELECTION> given;
        EsysAnswer<TPML_DIGEST> values;
        VTPM_CHECK(connection.run("TPM2_PCR_Read", [&] {
            TPML_PCR_SELECTION* selection = nullptr;
            TPML_DIGEST* digests = nullptr;
            const auto rc = Esys_PCR_Read(connection.esys(), ESYS_TR_NONE, ESYS_TR_NONE,
                                          ESYS_TR_NONE, &ask, nullptr, &selection, &digests);
            given.reset(selection);
            values.reset(digests);
            return rc;
        }));
        // A chip gives about eight at once, and says which ones those are.
        const auto& got = given->pcrSelections[0];
        std::size_t next = 0;
        std::erase_if(left, [&](std::uint8_t number) {
            const bool there = given->count == 1 && got.hash == TPM2_ALG_SHA256 &&
                               number / 8U < got.sizeofSelect &&
                               ((unsigned{got.pcrSelect[number / 8U]} >> (number % 8U)) & 1U) != 0;
            if (!there || next >= values->count || next >= std::size(values->digests) ||
                values->digests[next].size != std::tuple_size_v<Digest>) {
                return false;
            }
            std::copy_n(values->digests[next++].buffer, std::tuple_size_v<Digest>,
                        out[number].begin());
            return true;
        });
        if (next == 0) {
            return fail(Errc::unsupported, NextAction::ask_operator,
                        "the chip has no SHA-256 values of these PCRs; turn its SHA-256 bank on in "
                        "the firmware's settings");
        }
    }
    return out;
}

}  // namespace vtpm::chip
