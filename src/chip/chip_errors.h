// What the chip and the layers of tpm2-tss below ESAPI say, as an Error with words of our own.
//
// TCG TPM 2.0 Library, Part 2 clause 6.6 (response codes); TSS 2.0 Overview clause 4 (layers).
#pragma once

#include <tss2/tss2_common.h>

#include <string>
#include <string_view>

#include "vtpm/base/result.h"

namespace vtpm::chip {

// The TPM's own code in `rc` without parameter, handle and session numbers; 0 if a software layer
// made it.
TSS2_RC tpm_code(TSS2_RC rc);

// The command was not executed for a reason that passes by itself, within milliseconds.
bool worth_another_try(TSS2_RC rc);

tl::unexpected<Error> fail_chip(std::string_view what, TSS2_RC rc);

// Why a connection to `tcti` could not be made, where open(2) can tell.
tl::unexpected<Error> fail_connect(const std::string& tcti, TSS2_RC rc);

// The Error for an open(2) of a TPM device that set `error_number`.
tl::unexpected<Error> fail_device(const std::string& path, int error_number);

}  // namespace vtpm::chip
