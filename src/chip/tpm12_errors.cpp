#include "tpm12_errors.h"

#include <string>

namespace vtpm::chip::tpm12 {
namespace {

struct Meaning {
    Code code;
    Errc errc;
    NextAction next;
    std::string_view words;
};

constexpr std::array meanings{
    Meaning{Code::auth_fail, Errc::permission, NextAction::ask_operator,
            "the chip refuses the authorization value"},
    Meaning{Code::deactivated, Errc::chip, NextAction::ask_operator,
            "the chip is deactivated; activate it in the firmware's menu"},
    Meaning{Code::disabled, Errc::chip, NextAction::ask_operator,
            "the chip is disabled; enable it in the firmware's menu"},
    Meaning{Code::self_test_failed, Errc::chip, NextAction::ask_operator,
            "the chip is in failure mode; power-cycle the host"},
    Meaning{Code::no_space, Errc::too_large, NextAction::ask_operator,
            "the chip has no room for it"},
    Meaning{Code::no_srk, Errc::chip, NextAction::ask_operator, "nobody owns the chip"},
    Meaning{Code::resources, Errc::chip, NextAction::retry_later,
            "the chip has no room for another session"},
    Meaning{Code::bad_tag, Errc::unsupported, NextAction::refuse,
            "the chip does not know commands of TPM 1.2; is it a TPM 2.0?"},
    Meaning{Code::no_endorsement, Errc::chip, NextAction::ask_operator,
            "the chip has no endorsement key"},
    Meaning{Code::invalid_postinit, Errc::unavailable, NextAction::retry_later,
            "the chip has not been started (TPM_Startup is the firmware's task)"},
    Meaning{Code::area_locked, Errc::chip, NextAction::ask_operator, "the chip's memory is locked"},
    Meaning{Code::retry, Errc::chip, NextAction::retry_later, "the chip stays busy"},
    Meaning{Code::needs_self_test, Errc::chip, NextAction::retry_later,
            "the chip has not tested itself"},
    Meaning{Code::doing_self_test, Errc::chip, NextAction::retry_later,
            "the chip is still testing itself"},
    Meaning{Code::defend_lock_running, Errc::chip, NextAction::retry_later,
            "the chip is locked after failed authorizations; wait, or reboot"},
};

}  // namespace

std::string_view name_of(Ordinal ordinal) {
    switch (ordinal) {
        case Ordinal::oiap:
            return "TPM_OIAP";
        case Ordinal::osap:
            return "TPM_OSAP";
        case Ordinal::take_ownership:
            return "TPM_TakeOwnership";
        case Ordinal::pcr_read:
            return "TPM_PCRRead";
        case Ordinal::seal:
            return "TPM_Seal";
        case Ordinal::unseal:
            return "TPM_Unseal";
        case Ordinal::get_random:
            return "TPM_GetRandom";
        case Ordinal::continue_self_test:
            return "TPM_ContinueSelfTest";
        case Ordinal::get_capability:
            return "TPM_GetCapability";
        case Ordinal::read_pubek:
            return "TPM_ReadPubek";
        case Ordinal::startup:
            return "TPM_Startup";
        case Ordinal::flush_specific:
            return "TPM_FlushSpecific";
        case Ordinal::nv_define_space:
            return "TPM_NV_DefineSpace";
        case Ordinal::nv_write_value_auth:
            return "TPM_NV_WriteValueAuth";
        case Ordinal::nv_read_value_auth:
            return "TPM_NV_ReadValueAuth";
    }
    return "a command";
}

tl::unexpected<Error> fail_code(Ordinal ordinal, Code code) {
    const std::string where = std::string(name_of(ordinal)) + ": ";
    const std::string number =
        " (TPM 1.2 result " + std::to_string(static_cast<std::uint32_t>(code)) + ")";
    for (const auto& meaning : meanings) {
        if (meaning.code == code)
            return fail(meaning.errc, meaning.next, where + std::string(meaning.words) + number);
    }
    // TPM 2.0 Part 2 clause 6.6.2: the bits that only its results have.
    constexpr std::uint32_t format_bits = 0x180;
    if ((static_cast<std::uint32_t>(code) & format_bits) != 0)
        return fail(Errc::unsupported, where + "the chip is no TPM 1.2" + number);
    return fail(Errc::chip, NextAction::ask_operator, where + "the chip refused" + number);
}

}  // namespace vtpm::chip::tpm12
