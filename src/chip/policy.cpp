#include <openssl/sha.h>
#include <tss2/tss2_tpm2_types.h>

#include <algorithm>

#include "approver_key.h"
#include "nv_index.h"
#include "policy_digest.h"

namespace vtpm::chip::policy {
namespace {

// PolicyUpdate() of Part 3 clause 23.2.4 without the reference: H(old | command code | what).
Digest extend(const Digest& old, TPM2_CC command, ByteView what) {
    return sha256(ByteWriter().bytes(old).u32(command).bytes(what).take());
}

// TPM2_PolicyNV on eight bytes.
Digest with_nv(const Digest& old, ByteView name, std::uint64_t operand, TPM2_EO operation) {
    const Digest arguments =
        sha256(ByteWriter().u64(operand).u16(0 /* offset */).u16(operation).take());
    return extend(old, TPM2_CC_PolicyNV, ByteWriter().bytes(arguments).bytes(name).take());
}

// PolicyAuthorize starts again from zero.
Digest authorized(ByteView key_name, const Digest& reference) {
    const Digest by_key = extend(Digest{}, TPM2_CC_PolicyAuthorize, key_name);
    return sha256(ByteWriter().bytes(by_key).bytes(reference).take());
}

// `more`: an index that was written, and what else became of it.
Bytes name_of_index(NvKind kind, CellIndex index, const CellTag& tag, TPMA_NV more = 0) {
    const Bytes area = ByteWriter()
                           .u32(index)
                           .u16(TPM2_ALG_SHA256)
                           .u32(attributes_of(kind) | TPMA_NV_WRITTEN | more)
                           .u16(static_cast<std::uint16_t>(tag.size()))
                           .bytes(tag)
                           .u16(data_size_of(kind))
                           .take();
    return ByteWriter().u16(TPM2_ALG_SHA256).bytes(sha256(area)).take();
}

Result<void> check_selection(const PcrValues& pcrs) {
    if (pcrs.empty())
        return fail(Errc::invalid_argument, "no PCR to approve");
    if (pcrs.rbegin()->first > Chip::max_pcr)
        return fail(Errc::invalid_argument, "there are the PCRs 0 to 23");
    return {};
}

}  // namespace

Digest sha256(ByteView bytes) {
    Digest digest{};
    ::SHA256(bytes.data(), bytes.size(), digest.data());
    return digest;
}

Result<Bytes> name_of_key(ByteView approver_key) {
    VTPM_CHECK(check_key(approver_key));
    const auto area = approver_key.subspan(2);  // without the size of the TPM2B
    return ByteWriter().u16(TPM2_ALG_SHA256).bytes(sha256(area)).take();
}

Bytes name_of(const Counter& counter) {
    return name_of_index(NvKind::counter, counter.index, counter.tag);
}

Bytes name_of(const Latch& latch) {
    return name_of_index(NvKind::latch, latch.index, latch.tag);
}

Bytes name_when_closed(const Latch& latch) {
    return name_of_index(NvKind::latch, latch.index, latch.tag, TPMA_NV_READLOCKED);
}

Digest digest_of(const PcrValues& pcrs) {
    ByteWriter all;
    for (const auto& [number, value] : pcrs)
        all.bytes(value);
    return sha256(all.written());
}

Result<Digest> approved(const Counter& counter, const PcrValues& pcrs, std::uint64_t limit) {
    VTPM_CHECK(check_selection(pcrs));
    std::array<std::uint8_t, 3> bits{};
    for (const auto& [number, value] : pcrs)
        bits.at(number / 8U) |= static_cast<std::uint8_t>(1U << (number % 8U));
    const Bytes selection_and_values = ByteWriter()
                                           .u32(1)
                                           .u16(TPM2_ALG_SHA256)
                                           .u8(static_cast<std::uint8_t>(bits.size()))
                                           .bytes(bits)
                                           .bytes(digest_of(pcrs))
                                           .take();
    const Digest boot = extend(Digest{}, TPM2_CC_PolicyPCR, selection_and_values);
    return with_nv(boot, name_of(counter), limit, TPM2_EO_UNSIGNED_LE);
}

Result<Bytes> approver_key(std::string_view pem) {
    return key_from_pem(pem);
}

Result<Digest> fingerprint(ByteView approver_key) {
    VTPM_TRY(const Bytes der, key_as_der(approver_key));
    return sha256(der);
}

Result<Bytes> words_to_sign(const Approver& approver, const PcrValues& pcrs, std::uint64_t limit) {
    VTPM_CHECK(check_key(approver.key));
    VTPM_TRY(const Digest boot, approved(approver.counter, pcrs, limit));
    return ByteWriter().bytes(boot).bytes(approver.reference).take();
}

Result<void> check_approval(const Approver& approver, const Approval& approval) {
    VTPM_CHECK(check_key(approver.key));
    const auto words = words_to_sign(approver, approval.pcrs, approval.limit);
    if (!words)
        return fail(Errc::not_approved, "not an approval: " + words.error().context);
    return verify(approver.key, *words, approval.signature);
}

Result<Digest> digest_of(const Binding& binding) {
    Digest digest{};
    if (binding.approver) {
        VTPM_TRY(const Bytes key_name, name_of_key(binding.approver->key));
        digest = authorized(key_name, binding.approver->reference);
    }
    if (binding.latch)
        digest = with_nv(digest, name_of(*binding.latch), binding.latch->value, TPM2_EO_EQ);
    return extend(digest, TPM2_CC_PolicyCommandCode, ByteWriter().u32(TPM2_CC_Unseal).written());
}

std::string differing(const PcrValues& wanted, const PcrValues& have) {
    std::string list;
    for (const auto& [number, value] : wanted) {
        const auto at = have.find(number);
        if (at == have.end() || at->second != value)
            list += (list.empty() ? "" : ", ") + std::to_string(number);
    }
    return list;
}

}  // namespace vtpm::chip::policy
