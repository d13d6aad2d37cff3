#include "chip_errors.h"

#include <fcntl.h>
#include <tss2/tss2_tpm2_types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "vtpm/base/fd.h"

namespace vtpm::chip {
namespace {

struct Meaning {
    TSS2_RC code;
    Errc errc;
    NextAction next;
    std::string_view words;
};

constexpr std::array meanings{
    Meaning{TPM2_RC_INITIALIZE, Errc::unavailable, NextAction::retry_later,
            "the chip has not been started (TPM2_Startup is the firmware's task)"},
    Meaning{TPM2_RC_FAILURE, Errc::chip, NextAction::ask_operator,
            "the chip is in failure mode; power-cycle the host"},
    Meaning{TPM2_RC_REBOOT, Errc::chip, NextAction::ask_operator,
            "the chip wants a reboot of the host"},
    Meaning{TPM2_RC_UPGRADE, Errc::chip, NextAction::retry_later,
            "the chip is in the middle of a firmware upgrade"},
    Meaning{TPM2_RC_COMMAND_CODE, Errc::unsupported, NextAction::refuse,
            "the chip does not know this command"},
    Meaning{TPM2_RC_LOCKOUT, Errc::chip, NextAction::retry_later,
            "the chip is locked after failed authorizations; wait, or reset its lockout "
            "(tpm2_dictionarylockout -c)"},
    Meaning{TPM2_RC_NV_RATE, Errc::chip, NextAction::retry_later,
            "the chip slows down writes to spare its memory"},
    Meaning{TPM2_RC_NV_UNAVAILABLE, Errc::chip, NextAction::retry_later,
            "the chip cannot write its memory now"},
    Meaning{TPM2_RC_RETRY, Errc::chip, NextAction::retry_later, "the chip stays busy"},
    Meaning{TPM2_RC_YIELDED, Errc::chip, NextAction::retry_later, "the chip stays busy"},
    Meaning{TPM2_RC_TESTING, Errc::chip, NextAction::retry_later,
            "the chip is still testing itself"},
    Meaning{TPM2_RC_CANCELED, Errc::chip, NextAction::retry, "the command was cancelled"},
    Meaning{TPM2_RC_OBJECT_MEMORY, Errc::chip, NextAction::retry_later,
            "the chip has no room for another object; another program left its own loaded"},
    Meaning{TPM2_RC_SESSION_MEMORY, Errc::chip, NextAction::retry_later,
            "the chip has no room for another session; another program left its own loaded"},
    Meaning{TPM2_RC_SESSION_HANDLES, Errc::chip, NextAction::retry_later,
            "the chip has no session handle left; reboot, or flush the saved sessions"},
    Meaning{TPM2_RC_INTEGRITY, Errc::wrong_chip, NextAction::ask_operator,
            "another chip sealed this, or it was changed since"},
    Meaning{TPM2_RC_AUTH_FAIL, Errc::chip, NextAction::ask_operator,
            "the chip refused the authorization"},
    Meaning{TPM2_RC_BAD_AUTH, Errc::chip, NextAction::ask_operator,
            "the chip refused the authorization"},
    Meaning{TPM2_RC_POLICY_FAIL, Errc::locked, NextAction::ask_operator,
            "the policy does not hold on this boot"},
    Meaning{TPM2_RC_PCR_CHANGED, Errc::chip, NextAction::retry,
            "a PCR was extended in the middle of it"},
    Meaning{TPM2_RC_HIERARCHY, Errc::chip, NextAction::ask_operator,
            "the owner hierarchy of the chip is disabled; enable it in the firmware"},
    Meaning{TPM2_RC_HANDLE, Errc::chip, NextAction::retry,
            "the chip does not know the object; it was reset, or another program flushed it"},
    Meaning{TPM2_RC_SIZE, Errc::corrupt, NextAction::ask_operator,
            "the chip found a structure of the wrong size"},
};

std::string hexadecimal(TSS2_RC rc) {
    std::array<char, 16> text{};
    const int size = std::snprintf(text.data(), text.size(), "0x%08x", rc);
    return {text.data(), static_cast<std::size_t>(std::max(size, 0))};
}

}  // namespace

TSS2_RC tpm_code(TSS2_RC rc) {
    const TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;
    // The kernel's /dev/tpmrm0 puts its own layer on codes that it makes in the chip's name.
    if (layer != TSS2_TPM_RC_LAYER && layer != TSS2_RESMGR_TPM_RC_LAYER &&
        layer != TSS2_RESMGR_RC_LAYER) {
        return 0;
    }
    const TSS2_RC code = rc & ~TSS2_RC_LAYER_MASK;
    // Format one: bit 6 and bits 8 to 11 say which parameter, handle or session it is about.
    return (code & TPM2_RC_FMT1) != 0 ? (code & 0xbfU) : code;
}

bool worth_another_try(TSS2_RC rc) {
    const TSS2_RC code = tpm_code(rc);
    return code == TPM2_RC_RETRY || code == TPM2_RC_YIELDED || code == TPM2_RC_TESTING;
}

tl::unexpected<Error> fail_chip(std::string_view what, TSS2_RC rc) {
    const std::string where = std::string(what) + ": ";
    const std::string number = " (" + hexadecimal(rc) + ")";
    if (const TSS2_RC code = tpm_code(rc); code != 0) {
        for (const auto& meaning : meanings) {
            if (meaning.code == code) {
                return fail(meaning.errc, meaning.next,
                            where + std::string(meaning.words) + number);
            }
        }
        return fail(Errc::chip, NextAction::ask_operator, where + "the chip refused" + number);
    }
    switch (rc & ~TSS2_RC_LAYER_MASK) {
        case TSS2_BASE_RC_IO_ERROR:
        case TSS2_BASE_RC_NO_CONNECTION:
            return fail(Errc::unavailable, where + "the chip does not answer" + number);
        case TSS2_BASE_RC_RSP_AUTH_FAILED:
            return fail(Errc::chip, NextAction::ask_operator,
                        where +
                            "the answer is not from the chip that we know; somebody changes "
                            "what is on its bus" +
                            number);
        case TSS2_BASE_RC_MALFORMED_RESPONSE:
        case TSS2_BASE_RC_INSUFFICIENT_RESPONSE:
        case TSS2_BASE_RC_INSUFFICIENT_BUFFER:
        case TSS2_BASE_RC_BAD_VALUE:
        case TSS2_BASE_RC_BAD_SIZE:
            return fail(Errc::malformed, NextAction::ask_operator,
                        where + "the chip's answer does not parse" + number);
        default:
            return fail(Errc::chip, where + "tpm2-tss gave up" + number);
    }
}

tl::unexpected<Error> fail_device(const std::string& path, int error_number) {
    switch (error_number) {
        case EBUSY:
            return fail(Errc::in_use,
                        path + " is held open by another program (fuser " + path + " names it)");
        case EACCES:
        case EPERM:
            // At boot the node is there before udev has given it to us.
            return fail(Errc::permission, NextAction::retry_later,
                        path + " may not be opened by this user");
        case ENOENT:
        case ENODEV:
        case ENXIO:
            return fail(Errc::unavailable, "no chip at " + path);
        default:
            return fail(Errc::unavailable,
                        path + ": " + std::generic_category().message(error_number));
    }
}

tl::unexpected<Error> fail_connect(const std::string& tcti, TSS2_RC rc) {
    constexpr std::string_view prefix = "device:";
    if (tcti.starts_with(prefix)) {
        // The device TCTI drops errno, so ask once more. Opening alone sends nothing to the chip.
        const std::string path = tcti.substr(prefix.size());
        const Fd probe(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        if (!probe.valid())
            return fail_device(path, errno);
    }
    return fail(Errc::unavailable, "no chip at " + tcti + " (" + hexadecimal(rc) + ")");
}

}  // namespace vtpm::chip
