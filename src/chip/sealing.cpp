#include "sealing.h"

#include <algorithm>
#include <array>

#include "approval.h"
#include "marshal.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/chip/policy.h"
namespace vtpm::chip {
namespace {

// With userWithAuth and, by adminWithPolicy, ObjectChangeAuth shut, the policy is the only way in.
// A policy over PCRs that were not chosen by anybody would look stronger and be no stronger.
TPM2B_PUBLIC sealed_template(const Digest& policy) {
    TPM2B_PUBLIC out{};
    auto& area = out.publicArea;
    area.type = TPM2_ALG_KEYEDHASH;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                            TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_NODA;
    area.authPolicy.size = static_cast<UINT16>(policy.size());
    std::copy(policy.begin(), policy.end(), area.authPolicy.buffer);
    area.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_NULL;
    return out;
}

// What is loaded must be what seal() makes with this policy, whoever wrote it: an object with a
// weaker one would unseal as well.
Result<TPM2B_PUBLIC> checked_public(ByteView bytes, const Digest& policy) {
    VTPM_TRY(const TPM2B_PUBLIC given, unmarshal_public(bytes));
    TPM2B_PUBLIC comparable = given;
    comparable.publicArea.unique = {};
    if (!same(comparable, sealed_template(policy))) {
        return fail(Errc::corrupt,
                    "not an object that was sealed by us for this approver and this boot latch");
    }
    return given;
}

Result<LoadedHandle> load(EsysConnection& connection, const LoadedHandle& srk,
                          const TPM2B_PUBLIC& public_area, const TPM2B_PRIVATE& private_area) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::both_ways));
    ESYS_TR object = ESYS_TR_NONE;
    VTPM_CHECK(connection.run("TPM2_Load", [&] {
        return Esys_Load(connection.esys(), srk.get(), session.get(), ESYS_TR_NONE, ESYS_TR_NONE,
                         &private_area, &public_area, &object);
    }));
    return LoadedHandle(connection, object, LoadedHandle::End::flush);
}

}  // namespace

Result<LoadedHandle> start_session(EsysConnection& connection, const LoadedHandle& srk,
                                   TPM2_SE type, Protect protect) {
    TPMT_SYM_DEF symmetric{};
    symmetric.algorithm = TPM2_ALG_AES;
    symmetric.keyBits.aes = 128;
    symmetric.mode.aes = TPM2_ALG_CFB;
    ESYS_TR handle = ESYS_TR_NONE;
    VTPM_CHECK(connection.run("TPM2_StartAuthSession", [&] {
        return Esys_StartAuthSession(connection.esys(), srk.get(), ESYS_TR_NONE, ESYS_TR_NONE,
                                     ESYS_TR_NONE, ESYS_TR_NONE, nullptr, type, &symmetric,
                                     TPM2_ALG_SHA256, &handle);
    }));
    LoadedHandle session(connection, handle, LoadedHandle::End::flush);
    TPMA_SESSION attributes = TPMA_SESSION_CONTINUESESSION;
    if (protect == Protect::both_ways || protect == Protect::answer)
        attributes |= TPMA_SESSION_ENCRYPT;
    if (protect == Protect::both_ways || protect == Protect::command)
        attributes |= TPMA_SESSION_DECRYPT;
    VTPM_CHECK(connection.run("Esys_TRSess_SetAttributes", [&] {
        return Esys_TRSess_SetAttributes(connection.esys(), handle, attributes, 0xff);
    }));
    return session;
}

Result<SealedObject> create_sealed(EsysConnection& connection, const LoadedHandle& srk,
                                   const SecretBytes& secret, const Digest& policy) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::both_ways));
    const TPM2B_PUBLIC wanted = sealed_template(policy);
    const TPM2B_DATA outside_info{};
    const TPML_PCR_SELECTION creation_pcr{};
    TPM2B_SENSITIVE_CREATE sensitive{};
    sensitive.sensitive.data.size = static_cast<UINT16>(secret.size());
    std::copy_n(secret.view().begin(), secret.size(), sensitive.sensitive.data.buffer);
    EsysAnswer<TPM2B_PRIVATE> private_area;
    EsysAnswer<TPM2B_PUBLIC> public_area;
    const auto ran = connection.run("TPM2_Create", [&] {
        TPM2B_PRIVATE* private_answer = nullptr;
        TPM2B_PUBLIC* public_answer = nullptr;
        const auto rc = Esys_Create(connection.esys(), srk.get(), session.get(), ESYS_TR_NONE,
                                    ESYS_TR_NONE, &sensitive, &wanted, &outside_info, &creation_pcr,
                                    &private_answer, &public_answer, nullptr, nullptr, nullptr);
        private_area.reset(private_answer);
        public_area.reset(public_answer);
        return rc;
    });
    wipe({reinterpret_cast<std::uint8_t*>(&sensitive), sizeof sensitive});
    VTPM_CHECK(ran);
    SealedObject sealed;
    VTPM_TRY(sealed.public_area, marshal(*public_area));
    VTPM_TRY(sealed.private_area, marshal(*private_area));
    return sealed;
}

Result<void> try_to_load(EsysConnection& connection, const LoadedHandle& srk,
                         const SealedObject& sealed, const Digest& policy) {
    VTPM_TRY(const TPM2B_PUBLIC public_area, checked_public(sealed.public_area, policy));
    VTPM_TRY(const TPM2B_PRIVATE private_area, unmarshal_private(sealed.private_area));
    VTPM_CHECK(load(connection, srk, public_area, private_area));
    return {};
}

Result<SecretBytes> unseal_object(EsysConnection& connection, const LoadedHandle& srk,
                                  const SealedObject& sealed, const Binding& binding,
                                  const Approval* approval) {
    VTPM_TRY(const Digest digest, policy::digest_of(binding));
    VTPM_TRY(const TPM2B_PUBLIC public_area, checked_public(sealed.public_area, digest));
    VTPM_TRY(const TPM2B_PRIVATE private_area, unmarshal_private(sealed.private_area));
    Ticket ticket;
    if (binding.approver) {
        VTPM_TRY(ticket, verify_in_chip(connection, *binding.approver, approval));
    }
    VTPM_TRY(const LoadedHandle object, load(connection, srk, public_area, private_area));
    // After the load, so that little time passes in which a PCR is extended: the chip then refuses.
    VTPM_TRY(const LoadedHandle policy,
             start_session(connection, srk, TPM2_SE_POLICY, Protect::answer));
    VTPM_CHECK(satisfy(connection, policy, binding, ticket, approval));
    EsysAnswer<TPM2B_SENSITIVE_DATA> data;
    VTPM_CHECK(connection.run("TPM2_Unseal", [&] {
        TPM2B_SENSITIVE_DATA* answer = nullptr;
        const auto rc = Esys_Unseal(connection.esys(), object.get(), policy.get(), ESYS_TR_NONE,
                                    ESYS_TR_NONE, &answer);
        data.reset(answer);
        return rc;
    }));
    return SecretBytes::copy_of(
        {data->buffer, std::min<std::size_t>(data->size, sizeof data->buffer)});
}

Result<SecretBytes> random_bytes(EsysConnection& connection, const LoadedHandle& srk,
                                 std::size_t size) {
    VTPM_TRY(const LoadedHandle session,
             start_session(connection, srk, TPM2_SE_HMAC, Protect::answer));
    SecretBytes out(size);
    std::size_t filled = 0;
    while (filled < size) {
        EsysAnswer<TPM2B_DIGEST> part;
        // A chip gives as much as its largest digest at once, and may give less (Part 3 16.1).
        const auto ask = static_cast<UINT16>(std::min<std::size_t>(size - filled, 32));
        VTPM_CHECK(connection.run("TPM2_GetRandom", [&] {
            TPM2B_DIGEST* answer = nullptr;
            const auto rc = Esys_GetRandom(connection.esys(), session.get(), ESYS_TR_NONE,
                                           ESYS_TR_NONE, ask, &answer);
            part.reset(answer);
            return rc;
        }));
        if (part->size == 0 || part->size > ask) {
            return fail(Errc::malformed, "the chip gave random bytes of the wrong size");
        }
        std::copy_n(part->buffer, part->size,
                    out.span().begin() + static_cast<std::ptrdiff_t>(filled));
        filled += part->size;
    }
    return out;
}

}  // namespace vtpm::chip
