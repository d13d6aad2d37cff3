#include "tpm12_sealing.h"

#include "tpm12_boots.h"
#include "vtpm/chip/policy.h"

namespace vtpm::chip::tpm12 {
namespace {

constexpr std::uint16_t tag_pcr_info_long = 6;
constexpr std::size_t max_blob = 1024;

// TPM_PCR_INFO_LONG, Part 2 clause 8.5; what was measured when it was made does not matter.
Bytes pcr_info(const PcrValues& boot) {
    const Bytes selection = pcr_selection(boot);
    return ByteWriter()
        .u16(tag_pcr_info_long)
        .u8(any_locality)  // at creation; the chip puts in its own
        .u8(any_locality)
        .bytes(selection)
        .bytes(selection)
        .bytes(Sha1{})
        .bytes(composite_hash(boot))
        .take();
}

// What the chip says when it cannot have sealed this blob, or not with the storage key that it has.
// All else is about the chip and the moment.
bool about_the_blob(Code code) {
    switch (code) {
        case Code::auth_fail:
        case Code::no_srk:
        case Code::not_sealed_blob:
        case Code::auth2_fail:
        case Code::decrypt_error:
        case Code::bad_datasize:
        case Code::bad_version:
            return true;
        default:
            return false;
    }
}

std::vector<std::uint8_t> numbers_of(const PcrValues& pcrs) {
    std::vector<std::uint8_t> numbers;
    for (const auto& [number, value] : pcrs)
        numbers.push_back(number);
    return numbers;
}

tl::unexpected<Error> not_ours() {
    return fail(Errc::corrupt, "not a secret that was sealed by a TPM 1.2 for us");
}

}  // namespace

Result<Bytes> seal_blob(Tpm12Connection& connection, ByteView secret, const PcrValues* boot) {
    const Bytes info = boot == nullptr ? Bytes() : pcr_info(*boot);
    VTPM_TRY(Session session, connection.osap(et_srk, srk_handle, well_known));
    const Sha1 auth = session.hidden(well_known);
    const Bytes sized_info = ByteWriter().sized(info).take();
    const Bytes size = u32_bytes(static_cast<std::uint32_t>(secret.size()));
    VTPM_TRY(const SecretBytes blob,
             connection.run(Ordinal::seal,
                            {.handles = {srk_handle}, .parts = {auth, sized_info, size, secret}},
                            {&session}));
    if (blob.empty() || blob.size() > max_blob)
        return fail(Errc::malformed, NextAction::ask_operator,
                    "TPM_Seal: the chip's answer does not parse");
    return Bytes(blob.view().begin(), blob.view().end());
}

Result<SecretBytes> unseal_blob(Tpm12Connection& connection, ByteView blob) {
    VTPM_TRY(Session parent, connection.oiap(well_known));
    VTPM_TRY(Session data, connection.oiap(well_known));
    const auto answer = connection.run(Ordinal::unseal, {.handles = {srk_handle}, .parts = {blob}},
                                       {&parent, &data});
    if (!answer) {
        const Code code = connection.code();
        if (code == Code::wrong_pcr_value && !connection.broken())
            return fail(Errc::not_approved, NextAction::ask_operator,
                        "the chip's PCRs are not those that it was sealed to");
        if (connection.broken() || !about_the_blob(code))
            return tl::make_unexpected(answer.error());
        return fail(Errc::wrong_chip, NextAction::ask_operator,
                    "another chip sealed this, or it was changed since, or the chip was cleared (" +
                        answer.error().context + ")");
    }
    ByteReader reader(answer->view());
    VTPM_TRY(const auto size, reader.u32());
    if (size != reader.left() || size == 0 || size > Chip::max_sealed_size)
        return fail(Errc::malformed, NextAction::ask_operator,
                    "TPM_Unseal: the chip's answer does not parse");
    return SecretBytes::copy_of(reader.rest());
}

Result<PcrValues> read_pcr_values(Tpm12Connection& connection,
                                  const std::vector<std::uint8_t>& numbers) {
    if (numbers.empty())
        return fail(Errc::invalid_argument, "no PCR was asked for");
    PcrValues values;
    for (const std::uint8_t number : numbers) {
        if (number > Chip::max_pcr)
            return fail(Errc::invalid_argument, "there is no PCR " + std::to_string(number));
        const Bytes which = u32_bytes(number);
        VTPM_TRY(const SecretBytes value, connection.run(Ordinal::pcr_read, {.parts = {which}}));
        if (value.size() != sha1_size)
            return fail(Errc::malformed, NextAction::ask_operator,
                        "TPM_PCRRead: the chip's answer does not parse");
        values[number] = padded(value.view());
    }
    return values;
}

Result<SealedObject> seal_for_boots(Tpm12Connection& connection, const SecretBytes& secret,
                                    const std::vector<PcrValues>& boots) {
    VTPM_TRY(Bytes list, list_of_boots(boots));
    ByteWriter blobs;
    for (const auto& boot : boots) {
        VTPM_TRY(const Bytes blob, seal_blob(connection, secret.view(), &boot));
        blobs.sized(blob);
    }
    SealedObject sealed{std::move(list), blobs.take()};
    // What cannot be unsealed must not become the only copy. For another boot that cannot be told.
    const auto again = unseal_for_boot(connection, sealed);
    if (!again && again.error().code != Errc::not_approved)
        return tl::make_unexpected(again.error());
    if (again && !equal_constant_time(again->view(), secret.view())) {
        return fail(Errc::chip, NextAction::ask_operator,
                    "the chip unseals something else than it sealed");
    }
    return sealed;
}

Result<SecretBytes> unseal_for_boot(Tpm12Connection& connection, const SealedObject& sealed) {
    const auto boots = boots_of(sealed);
    if (!boots)
        return not_ours();
    ByteReader reader(sealed.private_area);
    std::vector<ByteView> blobs;
    for (std::size_t i = 0; i < boots->size(); ++i) {
        const auto size = reader.u32();
        const auto blob = size ? reader.bytes(*size) : Result<ByteView>(ByteView());
        if (!size || !blob || blob->empty() || blob->size() > max_blob)
            return not_ours();
        blobs.push_back(*blob);
    }
    if (reader.left() != 0)
        return not_ours();
    std::string why;
    for (std::size_t i = boots->size(); i-- > 0;) {  // the newest first
        const PcrValues& boot = (*boots)[i];
        VTPM_TRY(const auto now, read_pcr_values(connection, numbers_of(boot)));
        if (now == boot)
            return unseal_blob(connection, blobs[i]);
        if (why.empty())
            why = "PCR " + policy::differing(boot, now) + " is not what it was";
    }
    return fail(Errc::not_approved, NextAction::ask_operator, why);
}

}  // namespace vtpm::chip::tpm12
